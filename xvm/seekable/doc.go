// Package seekable reads gzip, xz, zstd and bzip2 files at any plain offset, and writes gzip files made for that.
//
// # Glossary
//
//	stored    of the compressed file: its bytes, offsets and size
//	plain     of its uncompressed content
//	part      what a format checks as one: a gzip member, an xz block, a zstd frame, a bzip2 stream
//	point     a place at which decoding can begin (a seek point)
//	boundary  a point between parts; a gzip point inside a part has a window: the last 32 KiB before it
//	table     what a file says of its own parts: the indexes of xz, the seek table of zstd
//	runner    a live decoder, its goroutine and its buffers; parked while no Stream uses it
//	run       the way of one runner through the file, and how far its bytes are to be trusted
//
// # The path of a read
//
// [Open] makes a [Reader]. [Reader.Stream] reads the table once, and takes the parked runner or the point that is
// nearest before the offset. The runner decodes ahead into two buffers of 128 KiB, and reads the file ahead of itself
// in chunks of 64 to 256 KiB. It shows the index each point it passes, which keeps it or compares it. When the Stream
// is closed, its runner is parked for the next one.
//
// # What each format offers
//
//	gzip   A point about every Options.Every plain bytes, inside members too. The plain size is known after one
//	       decoding to the end: ISIZE in the file tells that of the last member only, modulo 4 GiB.
//	xz     A point at each block, and the plain size, from the table. A file of one block is decoded forward.
//	       Filters: LZMA2, behind x86, ARM64 (BCJ) and delta.
//	zstd   A point at each frame, and the plain size, if there is a table; else frames become points as they are met.
//	       The size of a file up to 4 MiB is also found by a walk over its blocks. No dictionaries.
//	bzip2  No point but the beginning: each run is forward. The plain size is known after one decoding.
//
// A format is one file and one line in the table of codecs.go. See bzip2.go, the shortest.
//
// # What is checked
//
// Every checksum that a format has. A failed check is an [*Error] at the end of a part, when bytes of that part have
// been given out already: the caller has to withdraw them. A point inside a member holds the CRC-32 so far, so that
// every run checks the end of its member. What a table says is compared by each run that comes by.
//
// Behind the end of gzip and bzip2 files, zeros are padding, and up to 64 KiB of other bytes are ignored. If those hold
// the magic number of another part, a header was damaged: ErrCorrupt. A header that is cut short is io.ErrUnexpectedEOF.
// Behind an xz file there may be zeros in fours, behind a zstd file nothing.
//
// # Saved points
//
// [Reader.Points] gives them as bytes, [Reader.Restore] takes them (format.go). Damaged points, and those of another
// version, format or stored size, are refused. Points that are well formed and false are found out:
//
//   - A run from the beginning, or from a point so proven, must meet each restored point in the same state. If it
//     does not, all restored points are dropped.
//   - A run from a restored point must meet the next point in the same state, and the checksum of its member. If it
//     does not, the error is ErrPoints. The restored points are dropped, and asking again works.
//
// Whoever forges all points, with windows and checksums that agree, can make a run give wrong bytes: CRC-32 is no
// seal. Keep points where only their owner writes, or sign them, and check the plain content by sums of its own.
//
// # Limits
//
//	stored size                        2^56 bytes
//	plain size                         Options.MaxSize, 16 TiB
//	plain : stored beyond 1 GiB plain  Options.MaxRatio, 65536 (gzip reaches 1032, xz 7000, zstd 30000)
//	dictionary, window                 Options.MaxWindow, 128 MiB
//	one decoder                        its dictionary or window, and 1 to 5 MiB
//	all decoders together              Options.Budget, none
//	xz indexes read from the end       16 MiB, 2^20 blocks for each stream; zstd seek table: 2^20 frames
//	gzip name, comment                 1 MiB each
//	points                             Options.PointBytes, 16 MiB in memory; 64 MiB saved
//
// What exceeds one is ErrLimit, but a table that is too long is not used.
//
// # Concurrency and locks
//
// All methods of a Reader and a Budget may be called concurrently. A Stream is for one goroutine at a time.
// Lock order: stream.mu, Reader.mu, then index.mu or Budget.mu; tableOnce.mu, then index.mu. Only stream.mu and
// tableOnce.mu are held while waiting. A runner's place and buffers belong to its stream, or while it is parked to
// Reader.mu.
package seekable
