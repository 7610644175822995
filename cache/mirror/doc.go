// Package mirror knows the HTTP caches that stand between a rack and the
// origins: under which URL one has an object, which of them is asked, and which
// is not to be asked now. It makes no requests and knows nothing of ranges:
// package remote asks, and tells how that went.
//
// A mirror supplies bytes, never identity. Whoever uses what came from one
// compares it with block sums, see [source.Trial].
//
// # States
//
// A mirror that does not answer, or breaks off, is paused: the origin is asked
// instead. A scout asks it again after a second, then after twice as long, at most
// 5 min. If it fails again within a minute, the next pause is twice the last. While
// the origin fails, a paused mirror is asked all the same. A mirror that refuses the
// objects of one origin is not asked for those for a minute, and one that cannot
// reach that origin, for 10 s.
//
// A block that does not match its sum is fetched again from the origin. Until
// that has come, the mirror is accused, and not asked. If the origin's block
// matches, the mirror has lied. It is banned for 10 min, then for twice as long,
// at most for a day. Three answers in 10 min that are not what was asked for count
// as a lie; those that come at once are one.
//
// # Concurrency
//
// All methods may be called concurrently. Mirror.mu is a leaf.
package mirror
