// Package catalog shows a feed as releases, kept up to date, with the state of
// everything. It knows nothing of FUSE: the mount shows what it holds, and list,
// verify and prefetch use it directly.
//
//   - snapshot: one immutable state of the feed.
//   - release: one item of the feed and one version of its archive.
//   - generation: tells the releases apart that an item has had in this process.
//   - index: what is known of a package once its archive has been read.
//   - alarm: a feed or package contradicts what was seen before.
//   - acceptance: the operator's word that an alarm is all right.
//
// The rooms below are bundle (what one release holds), image (one file that is
// read by blocks), archive (the bytes of one enclosure) and trust (what was
// seen).
//
// # From feed to files
//
// [Catalog.Start] loads the last good feed and refreshes it. Each good feed becomes
// a [Snapshot] of [Release] values. A release is indexed at its first use
// ([Release.Package]), once for all that ask, and what was learned is kept on disk.
// A release whose indexing failed is tried again after a short pause.
//
// # Generations
//
// All bytes of a release come from one version of one archive. When its server
// answers with another version, a new release takes the place of the old one.
// Open files keep the old one: cached blocks are served, other reads fail with
// archive.ErrReplaced.
//
// Nothing is fetched any more of an archive that is all in the cache. So a
// request for the first byte asks whether it is the same: behind an open, at most once a
// minute, and after each look at the feed. A server that is down, or answers 404,
// changes nothing.
//
// A URL says where an archive is, not what it is. One that is signed anew at each
// look at the feed stays the same archive. A URL may expire (401, 403, 404, 410).
// The read that finds out has the feed looked at, at most once a minute, and goes
// on at the fresh URL. Any other change of the URL is a new generation, and so is
// a release that left the feed and comes back.
//
// # Waiting for a listing
//
// A listing waits for an index at most half a minute. It waits only some seconds
// for a server that fails, whatever hard or soft say: those are for content. An
// archive that must be read whole, or has very many headers, takes as long as
// that takes; [Release.PackageSoon] gives [ErrIndexing] meanwhile.
//
// # What was seen
//
// Package trust remembers what each release was when it was first seen, and the
// newest release. Where signatures are required, only what a trusted key signed
// counts as seen, and the newest release is indexed by itself for that. There the
// release of an alarm is refused until the operator accepts it. A feed that went
// back is not shown while a newer one is known. If none is, it is shown and
// nothing of it is served.
//
// A manifest with the line "# vmcast-release: ID" is good for that id only. That
// holds also on a host that has seen nothing yet, and cannot be accepted.
//
// # Concurrency
//
// Everything exported may be called by any number of goroutines. The order of locks
// is statusFile.mu, Catalog.settling, then the lock of a bundle.Record or Catalog.mu, then
// Release.mu, tasks.mu; the others are leaves. The first two and that of a record are held
// over I/O on the local disk, which is bounded.
// Functions given to [Catalog.Subscribe] and [Catalog.OnCorrupt] are called with no
// lock held, and must not block.
package catalog
