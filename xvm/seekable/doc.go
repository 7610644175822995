// Package seekable gives random access to the plain content of gzip, xz, zstd and bzip2 files, and writes gzip files
// that are made for it.
//
// # What each format offers
//
//	gzip   Decoded by our own inflater, which can stop between any two symbols. While a file is decoded a seek point
//	       is made about every Options.Every plain bytes, whatever its blocks; each member is a point of its own.
//	       Nothing in a gzip file tells the plain size: ISIZE is the size of the last member only, modulo 4 GiB, and
//	       garbage may follow it. Size is known after one decoding to the end, or from Restore.
//	xz     The indexes at the end of each stream tell the plain size and where each block begins: two or three small
//	       reads. Random access is by block, so that a file of one block (xz without -T) is decoded forward.
//	       LZMA2, with our own decoder, is the only filter. CRC32, CRC64 and SHA-256 are checked, other kinds of check passed over.
//	zstd   A seek table (the seekable format) tells the plain size and each frame; without one, frames become points
//	       as they are met. A file of one frame, the usual kind, is decoded forward. Its plain size is known
//	       beforehand only from a walk over all blocks, since the header's content size says nothing of further
//	       frames; this is done for files up to 4 MiB. Dictionaries are not supported.
//	bzip2  Decoded by the standard library, forward only: there is no seek point but the beginning. The plain size is
//	       known after one decoding.
//
// Sizes and places that a file's own tables state are taken before they are proven; each decoding that comes through
// compares them, and a difference is ErrCorrupt.
//
// # What is checked
//
// All checksums a format has. The checksum of a gzip member runs on from a seek point, which holds its value so far, so
// that a run from any point checks the member's end. A check that fails is an *Error at that place; bytes of the same
// member, block or frame have been given out before it, as with any streaming decoder. What needs more (an image
// that must be right before it is used) has its own sums above this package.
//
// Behind the end of gzip and bzip2 files, zeros of any length are padding, and up to 64 KiB of other bytes are ignored
// as gzip and bzip2 do, unless they contain the magic number of a member or block: then a header in the middle has
// been damaged, and that is ErrCorrupt. A file that ends in the first bytes of a header is cut short
// (io.ErrUnexpectedEOF). xz takes zero padding in fours, zstd nothing.
//
// # Seek points
//
// A gzip point inside a member is the bit offset, the offset of the block's header (the Huffman tables are built again
// from it) or the rest of a stored block, the checksum so far, and the last 32 KiB of plain bytes, themselves
// deflated: 5 to 15 KiB for file systems, a few bytes in zeros. Points take at most Options.PointBytes of memory:
// when that is full the distance is doubled and every second one goes. Points at boundaries have no window and are
// kept 16 times denser.
//
// xz and zstd have points at the boundaries of blocks and frames only. One in between would have to hold the history
// that the decoder may refer to, which is not 32 KiB but up to 8 MiB at the usual levels, 64 and more at the highest:
// of a 1 GiB image a point for each second of decoding takes a good part of what the whole takes compressed.
//
// Points gives them as bytes (see format.go for the form: versioned, and ending in a SHA-256), Restore takes them in a
// later Reader of the same file. Accidental damage, another version, another format and another file length are
// refused. Every length is bounded, and the decoder trusts no field: a place that makes no sense is an error, not a
// panic. Points that are well formed and yet false are dealt with so:
//
//   - Restored points are marked until a run that began at the beginning of the file, or at a point so proven, comes
//     by. It has to stop at the same plain offset in the same state, window included; a point that differs is false,
//     and all restored points are dropped.
//   - A run that began at a restored point has to meet the next point in the same state too, and the checksum and
//     length at the end of the member. If it does not, or if the data stops making sense, the error is ErrPoints and
//     not ErrCorrupt, the restored points are dropped, and asking again is answered from proven ones.
//
// So damage and mistakes do not go unnoticed. Somebody who writes all points, with windows and checksums that agree
// among themselves, can make a run that starts at one of them give wrong bytes: CRC-32 is no seal. Hence points are to
// be kept where only their owner writes, or signed, and sums of the plain file decide in the end.
//
// # Decoders
//
// Each live decoder is a goroutine (a runner) that fills two buffers of 128 KiB in turn, and reads the file in chunks:
// 64 KiB first, since a random access may need no more, then up to 256 KiB, one ahead of the decoder, ending at
// multiples of 64 KiB. When a Stream is closed its decoder is parked, and a later Stream at or behind its place goes
// on with it. Options.Parked idle ones are kept, each for Options.Idle. A runner takes about 1.2 MB for gzip, 5 MB for
// bzip2, the dictionary or window and 1 MB for xz and zstd. The number of streams in use is the caller's affair; what
// their decoders take together is bounded by Options.Budget, which Readers share.
//
// # Limits
//
//	stored size                        2^56 bytes
//	plain size                         Options.MaxSize, 16 TiB
//	plain : stored beyond 1 GiB plain  Options.MaxRatio, 65536 (gzip reaches 1032, xz 7000, zstd 30000)
//	dictionary, window                 Options.MaxWindow, 128 MiB
//	all decoders together              Options.Budget, none
//	xz indexes read from the end       16 MiB, 2^20 blocks for each stream
//	zstd seek table                    2^20 frames
//	gzip name, comment                 1 MiB each
//	seek points in memory              Options.PointBytes, 16 MiB
//	saved seek points                  64 MiB
//
// What exceeds one is ErrLimit, except that a table that is too long is not used and the file decoded forward.
//
// # Locks
//
// Reader.mu (pool) before index.mu (points, size) and Budget.mu; tableOnce.mu before index.mu; stream.mu before
// Reader.mu. None but stream.mu and tableOnce.mu is held while waiting. A runner's place and buffers belong to the
// stream that has it, or to Reader.mu when it is parked.
package seekable
