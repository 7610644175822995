// Package remote reads objects over HTTP by ranges, and trusts no server further than it
// must. It is the cache's source of bytes and fetches the feed.
//
// # Objects
//
// [Client.Open] asks for the first 128 KiB with a GET (not HEAD, which some servers answer
// differently) and pins an [Identity]: strong ETag, Last-Modified, length, and whether the
// server has ranges. From then on every answer must be of that object:
//
//   - Equal strong ETags prove it. If the server has stopped sending one, equal
//     Last-Modified and length are taken instead. Weak and malformed ETags are no validators
//     at all, and none is longer than 1 KiB.
//   - A validator that differs is [ErrChanged], which stays: bytes of two versions are never
//     mixed, also when a server flaps between two. Validators that are missing make the answer
//     unusable.
//   - If-Range is sent with a strong ETag, or with a Last-Modified at least one second older
//     than the Date of the same answer, as RFC 9110 (13.1.5, 8.8.2.2) permits. Servers that
//     ignore it are found out by the checks above.
//   - An object without any validator is pinned by its length alone ([Identity.Pinned]); its
//     content is then only as good as the sums it is checked against, so that package
//     fs/catalog has those checked before anything is served.
//
// A partial answer must be status 206, begin where it was asked to, and not go beyond. It must
// have the length of the object as total or none, a matching Content-Length if there is one,
// one part, and no content coding; else it is thrown away ([ErrProtocol]). One that is shorter
// is taken, and the rest asked for. Status 200 for a range is read no further.
// A server that answers Open with 200 has no ranges: its objects are streamed from their
// start. So has one that refuses a range with 400, 403 or 501 and answers without. One that sends a Content-Encoding although identity was asked for (as Apache does
// for files its AddEncoding names) is not usable.
//
// # Failures
//
// What may pass is tried again: network errors, broken and stalled bodies (from the byte
// where they broke), status 408, 425, 429 and 5xx. Pauses start at RetryMin and double up to
// RetryMax, ±50 %, or are what Retry-After says, up to RetryAfterMax; 64 KiB received make
// up for the failures before them. Hard fetches go on until their context ends, soft ones
// until nothing has arrived for Timeo ([TemporaryError]). An unusable answer is final the
// third time in a row, a certificate that does not verify and all other statuses at once:
// these are answers, and waiting would only turn them into a hang. None of that but
// ErrChanged is remembered: the next fetch asks again.
//
// Fetches that wait for an origin do not wait alone. One of them, the scout, tries again
// after 2 to 4 s at most, and the first good answer to anyone ends the pauses of all (an
// eighth of each passes nevertheless, so that an object that fails alone is not asked for
// at the rate at which others succeed). So a server that is down for an hour sees a
// request every 3 s, and one from each waiting fetch every 30 s, and no guest waits for
// more than seconds once it is back. Retry-After goes before: the scout keeps to it, and
// after 429 good answers to others end nothing.
//
// An origin that refuses requests for their number (429, 503) gets fewer: the number at once
// halves, and a gap between requests is learned from what it bears. Both recover slowly. An
// operation that alone is refused five times in a row is not taken for a sign of that.
//
// A request whose answer does not begin within 3 s, or four usual latencies of its origin, is
// made a second time on a fresh connection; the first answer wins. TCP itself ends a connection
// whose other end has acknowledged nothing for 4 s, and asks when it was silent for 2 s. So a
// path that died without a word costs less than 5 s, and a slow server is waited for.
//
// When a connection goes silent all others to its origin are given up too: a network that
// forgot one has forgotten them all.
//
// Two timers watch an attempt: one for connecting, one that ends it when less than 4 KiB
// arrive in StallTimeout. They stand still while the reader is busy elsewhere.
//
// # Where it goes, and what it tells whom
//
// Only http and https, at most 10 redirects, never from https to http. Where redirects led
// is remembered and asked directly; any failure there forgets it and starts again from the
// URL of the feed (signed URLs expire), within the same identity.
//
// Addresses are public, private (RFC 1918, ULA, CGNAT and other special ranges), link-local
// or loopback; IPv4 embedded in IPv6 counts as what it embeds. What a feed names or
// redirects to may be public or of the feed's own class; link-local and loopback feeds may
// also name private addresses. The class of a feed is that of the address it was reached at,
// the most public one if there were several, in this process or, by [Client.FeedFrom], in the
// one that fetched the copy at hand. The check is made on the address being connected
// to, after name resolution, on every hop, and connections made under different rules are
// never shared. The feed's own URL comes from the administrator and may be anywhere; a local
// feed file counts as loopback. Through a proxy, which resolves names itself, only literal
// addresses can be checked.
//
// Credentials: the token file and the client certificate are for the origin (scheme, host,
// port) of the feed; a netrc entry or userinfo in a URL for the origin of the URL it belongs
// to, before any redirect, or for the proxy of that name; the default entry of a netrc file
// for the feed's origin only.
// Redirects to other origins see none. There are no cookies and no Referer. Messages and logs
// show URLs without userinfo and query ([Display]).
//
// # Order and limits
//
// At most MaxConns requests are under way per origin, the urgent first: demand, read-ahead,
// background. The last place is only for demand, and background gets a quarter. Bandwidth is
// one limit over all bodies.
//
// Each origin has its own transport, which speaks HTTP/1.1 with connections kept alive. Each
// request has a connection of its own, so that a server which stalls one holds up no other.
// HTTP/2 shares one connection and its flow control between all of them, and is no faster
// for ranges: over TLS with 30 ms and 100 Mbit/s, 8 ranges of 256 KiB at a time came at
// 97 Mbit/s with HTTP/1.1 and at 95 with HTTP/2 (of 512 KiB: 98 and 97, of 64 KiB: 84 and
// 71). Only the first eight requests take one more round trip, 40 ms, to connect.
//
// A request runs on a goroutine of its own. Its caller returns when its context ends, even if
// the transport never does; such a transport is replaced.
//
//	header of an answer        64 KiB
//	URL, Location              8 KiB
//	redirects                  10
//	ETag, Last-Modified        1 KiB each, longer ones are ignored
//	netrc, token file          1 MiB
//	document                   the caller's limit, before and after decoding
//	origins remembered         1024
//	requests stuck for ever    64, then no others are made until one returns
//
// # Locks
//
// Client.mu is taken before peer.mu; Object.mu, credentials.mu and secretFile.mu are
// taken with neither held, credentials.mu before secretFile.mu. None is held across I/O on
// the network.
package remote
