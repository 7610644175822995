// Package feed reads and writes VMcast feeds: the list of an appliance's
// releases, each with the URL of its package.
//
// # Reading
//
// [Parse] takes a document and returns releases, newest first. The parser is
// gofeed; in front of it stand guards of our own, because a feed is foreign
// text that decides about file names and URLs:
//
//  1. The document may have [MaxBody] bytes, in UTF-8 as well.
//  2. Its character set is found out (byte order mark, content, declaration,
//     in this order) and it becomes UTF-8 without control characters.
//  3. An HTML page, as a captive portal or a login page sends it, is told from
//     a feed.
//  4. XML is walked with the tokenizer that gofeed uses. Entities cannot be
//     declared; a DOCTYPE that only names something passes, and nothing is
//     ever loaded. Depth, attributes, namespaces and elements have limits.
//     Elements that mean nothing to us are cut out. Tags must match. URLs in
//     the scope of an xml:base are resolved.
//  5. Of more than [MaxItems] items the newest are kept, by their dates. More
//     than a feed can hold that have a package are an error.
//  6. JSON is reduced to version, title and items, with the same limits.
//
// A malformed XML document is tried a second time after a repair that escapes
// text in the elements that hold only text. A well-formed one is never
// repaired.
//
// # Dialects
//
//   - RSS 2.0, 0.9x and 1.0 (RDF), Atom 0.3 and 1.0, JSON Feed 1 and 1.1:
//     enclosure, link rel="enclosure", attachments.
//   - Enomalism: the type application/enomalism2-xvm2.
//   - Archipel: uuid for guid, dates as Python prints them (taken as UTC),
//     titles that are not escaped.
//
// An item has one package. Of several enclosures it is the one that looks most
// like one, by the end of its name, else by its type: XVM first, then other
// archives with disks, then disk images, then what does not say. Pictures,
// sums, signatures and the like are never a package. The length attribute is
// advice. Relative URLs are resolved against xml:base, else the URL the feed
// came from in the end. The scheme must be http or https; file is allowed in a
// feed that is a local file itself.
//
// A release is known by its id: guid, Atom's or JSON's id, uuid, else the
// SHA-256 of the package's URL. Of two items with one id the newer one counts.
// Releases without a date come last, in the order of the feed; a date in the
// future is believed, with a warning.
//
// # Names
//
// The directory name of a release is made by [safeName] from its title and
// given for good by [nameTable]. Names are chosen so that no shell, QEMU option
// (commas, colons), unit file (%) or terminal can be fooled by them. Two names
// that could be taken for one another (case, compatibility forms, Cyrillic and
// Greek look-alikes of Latin letters) never exist beside each other.
//
// # Polling
//
// A [Poller] holds the last good feed. What counts as good: fetched in time,
// not over http when https was asked for, parsed, and not empty where the last
// one had releases. All else leaves the last good feed in place; unreachable
// never means withdrawn. The state after an attempt:
//
//	fetched, other bytes   new feed, saved, OnFeed called
//	same bytes, or 304     confirmed: not stale
//	error                  stale, next attempt 10 s later, then doubling up to 15 min,
//	                       less up to a quarter at random; at least Retry-After (at most 1 h)
//
// After a success the next poll is due after the channel's ttl or the server's
// max-age, whichever is longer, else [defaultInterval]; never before
// [minInterval] nor after [maxInterval]; plus up to a tenth at random, so that
// fifty hosts do not ask at once. skipHours and skipDays then defer it. The
// option Refresh replaces all that by a fixed time; a local file is looked at
// every [localInterval].
//
// What is saved is one JSON document: the feed's bytes, its validators, the
// URL it came from, who answered there, and the names given. Who answered is
// kept since it decides what the feed may name: of a file, the user who could
// have put it there ([FetchFile]); of a URL, what kind of address it led to. A
// "not modified" by another party is not believed. Losing it costs the stability of
// names only where titles collide.
//
// # Writing
//
// [Channel] writes RSS 2.0 and updates it: see [Channel.Update].
//
// # Text
//
// All strings in [Feed], [Status] and error texts of [Poller] have gone
// through [Sanitize]; use it for any other foreign text before it is shown.
// NotesHTML has gone through [sanitizeHTML].
//
// # Locks
//
// nameTable has a mutex, a leaf. Poller has one for its state and a token that a
// poll holds; the token is taken first, and no function of the options is
// called with the mutex held.
package feed
