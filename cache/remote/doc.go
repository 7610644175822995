// Package remote reads objects over HTTP by ranges, and trusts no server further than it must.
//
//   - object: what a URL named when it was opened, pinned by its [Identity].
//   - validator: a strong ETag, or a Last-Modified. Bytes with another one are never mixed in.
//   - route: a URL, and the feed that named it. It decides on addresses and credentials.
//   - attempt: one request and its answer. A fetch makes attempts until it has its bytes.
//   - peer: what is known of one origin (scheme, host, port): its queue, pace and connections.
//   - pace: how many requests an origin bears, at once and in time.
//   - hedge: a request made again because the one before is not answered.
//   - rally: where fetches meet that wait for the same to work again.
//
// # The way of a fetch
//
// [Client.Open] asks for the first 128 KiB and pins the identity. [Object.Fetch] waits in the
// queue of the origin, the urgent first, and asks for a range. Each answer is compared with the
// identity. A body that breaks is continued where it broke, as is one that is shorter than was
// asked for. A server without ranges sends the object from its start. One that has lost them
// is told by [ErrNoRanges], and [Rangeless] goes on.
//
// Equal strong ETags prove the object. Otherwise Last-Modified and length must be equal. A
// validator that differs is [ErrChanged], which is final. [Object.Unpinned] is for bytes that
// sums prove: there only the length counts. Other answers that contradict HTTP,
// or what was asked for, are [ErrProtocol]. So is HTML in place of an object that was none.
//
// # Failures
//
// Network errors and the statuses 408, 425, 429 and 5xx are tried again. Pauses double from
// RetryMin to RetryMax, or are what Retry-After says. Soft fetches give up when nothing has
// arrived for Timeo ([TemporaryError]); they end at once with any other status, with a bad
// certificate, and with the third unusable answer in a row. Open does the same, soft or hard.
//
// Hard fetches of an object that was served before wait for all of that to pass. Only three
// things end them: ErrChanged, status 410, and status 404 for more than an hour. Before each
// pause the files of credentials and certificates are read again, and [Object.Follow] may find
// a fresh URL.
//
// Those who wait meet in a rally. One of them, the scout, tries again after 2 to 4 s, and a
// good answer wakes the others. A server that is down sees few requests, and no guest waits for
// more than seconds once it is back.
//
// An origin that refuses requests for their number (429, 503) gets fewer. The number at once
// halves, a gap between requests is learned, and both recover slowly.
//
// # Time
//
// A request is hedged if its first byte is not here after 3 s, or four usual latencies of its
// origin, and again after 9 and 21 s. A body that pauses for as long is continued on a fresh
// connection, with twice the patience each time. TCP ends a connection that acknowledges
// nothing for 4 s. Less than 4 KiB in StallTimeout end an attempt. A caller returns when its
// context ends, even if the transport never does. Such a transport is replaced.
//
// This package speaks HTTP/1.1 only: a stalled answer then holds up no other. HTTP/2 is no
// faster for ranges: over TLS, 30 ms and 100 Mbit/s, 8 ranges of 256 KiB at a time come at 95
// Mbit/s, with HTTP/1.1 at 97. It only connects 40 ms sooner, once.
//
// # Where it goes, and what it tells whom
//
// What a feed names may be public, or of the feed's own class of address: private, link-local
// or loopback. The address is checked when it is connected to, on every hop. Redirects never
// lead from https to http. The administrator's own URL may be anywhere. A proxy resolves names
// itself, so that only literal addresses can be checked.
//
// The token, the request headers and the client certificate are for the origin of the feed.
// Netrc and userinfo are for the origin of the URL itself. Redirects to other origins see none.
// There are no cookies and no Referer. Messages show URLs without userinfo and query.
//
// # Limits
//
//	requests at once           MaxConns per origin; one place is for demand, a quarter for background
//	header, URL, redirects     64 KiB; 8 KiB; 10
//	validators                 1 KiB, longer ones are ignored
//	netrc, token, headers      1 MiB
//	origins remembered         1024
//	requests stuck for ever    64, then no others are made until one returns
//
// # Concurrency
//
// A [Client] and an [Object] may be used by many goroutines, the body of a fetch by one at a
// time. Client.mu is taken before peer.mu. All other locks are taken with neither held,
// certificates.mu and credentials.mu before secretFile.mu. None is held across network I/O.
package remote
