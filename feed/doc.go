// Package feed reads and writes VMcast feeds: the list of an appliance's
// releases, each with the URL of its package.
//
// # Glossary
//
//   - feed: a document in RSS, Atom or JSON Feed, and what [Parse] makes of it;
//   - item: one entry of the document;
//   - enclosure: what an item offers for download;
//   - package: the one enclosure of an item that is the appliance;
//   - release: an item with a package;
//   - id: what a release is known by, for good;
//   - name: the directory of a release, made of its first title, for good;
//   - guard: code that makes a foreign document safe and plain for the parser.
//
// # The path of a document
//
// A [Poller] fetches it. toUTF8 finds the character set. A guard (guardXML,
// guardJSON) applies the limits of feed.go and leaves out everything without a
// meaning here. It writes ids, titles, dates and enclosures in one plain form. gofeed
// parses what is left. release chooses the package and the id of each item, and the
// names are given last. A feed that is good is saved and handed to OnFeed.
//
// XML may not declare entities, and nothing that a DOCTYPE names is ever loaded.
// A malformed document is tried a second time after repair, which escapes text in
// the elements that hold only text. A well-formed one is never repaired.
//
// # Dialects
//
//   - RSS 2.0, 0.9x and 1.0 (RDF), Atom 0.3 and 1.0, JSON Feed 1 and 1.1, with
//     <enclosure>, link rel="enclosure", <media:content> and attachments;
//   - Enomalism: the type application/enomalism2-xvm2;
//   - Archipel: uuid for guid, dates as Python prints them (taken as UTC), titles
//     that are not escaped.
//
// Of several enclosures, the package is the one that looks most like one, by the
// end of its name, else by its type: XVM first, then other archives with disks, then
// disk images, then what does not say. Pictures, sums and signatures are never a
// package. The scheme must be http or https; a local feed may also name files.
//
// The id is the guid, Atom's or JSON's id, or the uuid, compared as it is written
// (RFC 4287). An item without one has the SHA-256 of its package's [URLKey]. Of two
// items with one id the newer one counts. Releases without a date come last. A date
// more than a day ahead makes no release the newest one before it comes, see [Ahead].
//
// # Names
//
// No shell, QEMU option (commas, colons), unit file (%) or terminal can be fooled
// by a name. Two names that could be taken for one another never exist beside each
// other: case, compatibility forms, Cyrillic and Greek look-alikes of Latin letters.
//
// # Polling
//
// A feed is good if it came in time, and not over http when https was asked for.
// It must parse, and must not be empty where the last one had releases. Anything
// else leaves the last good feed in place: unreachable never means withdrawn.
//
//	fetched, other bytes   new feed, saved, OnFeed called
//	same bytes, or 304     confirmed: not stale
//	error                  stale, next attempt 10 s later, then doubling up to 15 min,
//	                       less up to a quarter at random; at least Retry-After (at most 1 h)
//
// After a success the next poll is due after the channel's ttl or the server's
// max-age, whichever is longer, else after an hour. It is never due before a minute nor
// after a day. A tenth at most is added at random. skipHours and skipDays then defer it. The option
// Refresh replaces all that by a fixed time. A local file is looked at every 10 s.
//
// The saved document also tells who answered ([Document].From), because that
// decides what the feed may name. A "not modified" by another party is not believed.
//
// # Concurrency and locks
//
// All functions may be called concurrently, and so may the methods of Poller,
// but for Run. Poller has a token that a poll holds, and a mutex for its state. The
// token is taken first. No option is called with the mutex held. The table of names
// has a mutex of its own, a leaf.
package feed
