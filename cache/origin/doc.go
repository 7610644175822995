// Package origin is an HTTP origin for tests, benchmarks and demonstrations:
// it serves byte ranges of any io.ReaderAt over a modelled network, counts and
// records what it was asked for, and misbehaves on demand.
//
// # The network
//
// Three numbers describe it. Latency is one round trip, spent once per request
// before the first byte of the answer. Connection latency is spent once per new
// connection, as a TCP handshake would. Bandwidth is that of one link which all
// connections share: the body of every answer crosses it in quanta of one
// millisecond's worth (1 to 16 KiB), first come first served, and a connection
// has at most one quantum waiting, so that parallel ranges get equal shares as
// they would on a wire. The first quantum of an answer is ready for the link when
// the latency has passed; latencies of parallel requests overlap, bytes do not.
//
// The link is a clock, not a token bucket: each quantum is given the time at which
// its last byte arrives, and the sender sleeps until then. A sender that wakes up
// late finds its next quantum scheduled from where the last one should have ended
// (up to 10 ms back), so that the mean rate is exact although sleeps are not.
// Sleeps end on a timerfd, because the runtime's own timers are only good to a
// millisecond on an idle process. What is not modelled: TCP slow start, loss,
// packet headers, the upload direction, answer headers.
//
// # Faults
//
// A [Fault] selects requests by path, count and probability and says what goes wrong
// with them; see [Kind]. At most one fault applies to a request: the first injected
// that is willing. [Server.Forbid] makes a range of a file one that must not be asked
// for again, which is how tests prove that nothing is fetched twice.
//
// # Concurrency
//
// All methods may be called at any time from any goroutine. Server.mu guards
// everything that changes, except the link, which has its own; neither is held
// while the other is taken, nor while anything sleeps or is written.
package origin
