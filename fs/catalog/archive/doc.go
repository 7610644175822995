// Package archive supplies the bytes of one enclosure. It is a file of a server
// or of this machine, and is read by ranges, or taken whole where it must be.
//
//   - archive: an enclosure whose identity (validator and length) is pinned.
//   - content: what the members are cut from. It is the archive itself, or a file
//     of the cache into which the archive is taken, or inflated, as one stream.
//   - head: the first bytes of an archive, which come with the answer to [Open],
//     and what indexing will want next.
//   - place: where an enclosure is, and what its owner wants to be told.
//   - stream: the plain content of compressed bytes, whose seek points are kept.
//
// # The way of a member's bytes
//
// [Open] asks once and pins what it is told; [Resume] takes up what was pinned in
// an earlier process. [Archive.Content] or [Archive.Inflated] is what members are
// cut from, by [Member]. Its users hold it with Acquire. [Walk] finds the
// members.
//
// A URL may expire. The read that finds out asks the place for a fresh one, and
// goes on there. A hard read waits for one. An answer of another version of the archive is
// [ErrReplaced], and the place is told.
//
// Of bytes that a block list proves, the same may come with another validator, as from a
// server that was moved. [Archive.Proven] takes them, and the user of the list says so if
// they contradict it: then the archive is another one. The walk reads in the same way, and
// whoever calls it has to prove what it found, if Strange says that there was such.
//
// # What an enclosure may be
//
// [Recognize] tells what an enclosure is by its content, not by its name or type.
// It may be a tar archive. An archive that is compressed as a whole is inflated
// once, as one stream, into a file of the cache. A disk image, compressed or not,
// becomes the one file of its release. A raw image that begins like nothing known
// counts as an image if its name ends like one's. Anything else is refused with
// what was found.
//
// # Indexing
//
// What the walk will want is asked for at once. That is the tail of the archive,
// and the rest of a block list that begins in the first 128 KiB. Headers that are
// equally far apart, as in an XVA archive, are read many at a time.
//
// # A file of this machine
//
// Its validator is its time and size. The feed of another user may name files of
// that user only: the mount must not show what its reader cannot read.
//
// # Concurrency
//
// Everything here is safe for any number of goroutines. The mutex of a streamed
// archive is held while a file of the cache is opened or closed. It comes before
// that of the archive it is inflated from, and before the locks of package cache.
package archive
