// Package trust remembers, in a directory that is not the cache, what was seen
// of a feed: the SHA-256 of each release's manifest when it was first seen, and
// the newest release. It raises alarms, which the operator accepts or not; what
// follows from one is the catalog's matter.
//
//	changed    another manifest under the same release; where nobody had signed the
//	           first one, a signed one takes its place silently
//	replayed   the signed manifest of one release under another id (S5)
//	rollback   the newest release seen is gone, and what is newest now is older by
//	           date; without dates: was seen before (S10). A date more than a day
//	           in the future makes no release the newest
//
// # On the disk
//
//	STATE/lock            flock, held to change anything
//	STATE/feeds/HASH.json one [Feed], replaced as a whole; HASH is of its URL
//
// The directory is this user's and nobody else's. A file is read anew when
// another process has changed it, so an accepted alarm takes effect at once. A
// damaged file is an error: taking it for empty would be forgetting.
package trust
