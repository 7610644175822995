// Package store keeps blocks of files on the local disk: what was fetched once is there after a restart, after a
// crash, and for every other process that uses the same directory.
//
// A file is a number of blocks of one size, each absent or present. A present block has a checksum, which every read
// compares, so that the disk is not trusted. The content of a file never changes: its [Key] is a hash over its
// identity, and other content is another file. Besides files there are small documents.
//
// # Promises
//
//   - A block that ReadBlock returns has the bytes that WriteBlock was given.
//   - A process killed at any moment loses at most the blocks of the last SyncEvery; after a power cut the same.
//   - The disk space of all blocks stays below Options.Limit, in all processes together, and MinFree stays free.
//   - A disk that is full or fails gives [ErrFull] ([ErrFailing] is one) or [ErrAbsent], never wrong bytes. The caller
//     then works uncached; that goes for opening a file too, which succeeds without a place on the disk, and gets one
//     within some 5 s of the disk having it again, also while it is open. A filesystem that has to be unmounted to be
//     mended is not let go of before Close. What the kernel reads by itself ([File.Data]) fails with the disk.
//   - A read of a present block allocates nothing and takes no lock that anyone holds during IO.
//
// # The directory
//
//	CACHEDIR.TAG       for backup programs
//	version            "vmcastfs cache 1\n"; anything else is refused with ErrFormat
//	lock               lock bytes of the directory
//	files/KEY.data     the bytes, block b at b × block size; sparse; as long as the file once the size is known
//	files/KEY.journal  which blocks are present, their checksums, the size, the state
//	files/KEY.lock     lock bytes of the file; its modification time is when the file was last used, to a minute
//	docs/KIND/HASH     a document; HASH is the SHA-256 of its name
//
// Names that begin with .tmp- or .gone- are unfinished business of a process, swept up by Open. The directory belongs
// to the user and has mode 0700; everything in it is opened relative to the directory's descriptor without following
// symbolic links. A directory that is neither empty nor a cache is refused.
//
// # The journal
//
// All numbers are little-endian; all checksums are CRC-32C (Castagnoli). A header of 64 bytes:
//
//	 0   8  "VMCJRNL1"; another digit at the end is a later version and refused
//	 8   4  block size, a power of two from 4 KiB to 16 MiB
//	12   4  salt, random, not 0: where the checksums of records start from, so that bytes of another journal are none
//	16  32  the key
//	48  12  zero
//	60   4  checksum of bytes 0 to 59
//
// Then records, in slots of 16 bytes: a head, and up to 255 slots of payload.
//
//	 0   1  kind
//	 1   1  slots of payload
//	 2   6  pos
//	 8   4  value; with a payload, the salted checksum of the payload
//	12   4  salted checksum of bytes 0 to 11
//
//	kind 1  size    pos: the size of the file in bytes
//	kind 2  state   pos: 0 partial, 1 verified, 2 unverified, 3 corrupt; payload: a note, padded with zeros
//	kind 3  blocks  pos: the first block; value: its checksum; with payload instead, four blocks' checksums a slot
//	kind 4  zeros   pos: the first block; value: how many blocks are all zero (they take no disk)
//	kind 5  drop    pos: the first block; value: how many blocks are absent from here on; a verified file is partial again
//
// A record of an unknown kind is skipped. A slot that is no record is skipped too; if a record follows, the journal
// was damaged, a verified file counts as partial (the record that said otherwise may be the lost one), and the journal
// is rewritten. If none follows, it is the tail of an append that was cut short: ignored, and cut off by the next who
// writes. A damaged or missing header, or a missing data file, starts the file afresh.
//
// Blocks written together that are neighbours share a record, which comes to 4 bytes a block; a lone block takes 16.
// So 100 GB in blocks of 64 KiB are 6 to 26 MB of journal, replayed in a fraction of a second. A journal that is
// twice as long as it need be is rewritten under a temporary name and renamed over; processes that have the old one
// open see that it lost its name, and read the new one.
//
// # A document
//
//	 0   8  "VMCDOC1\n"
//	 8   4  length of the name
//	12   8  length of the data
//	20   4  checksum of all the other bytes
//	24      the name, then the data
//
// It is written under a temporary name, synced and renamed. One that is damaged does not exist.
//
// # The order of a write
//
// WriteBlock writes the data (pwrite), and the block is present in this process. The flusher, one goroutine of the
// Store, then does for each file: fdatasync of the data, append to the journal, fdatasync of the journal. It does so
// at once for the first block after a quiet time, and then every SyncEvery. A block in the journal is therefore on the
// disk; checksums are there for what breaks this rule. Dropping goes the other way round: punch the hole, append the
// record, show it: nobody writes a block again before its hole is punched. A process killed between the first two leaves
// a hole that fails its checksum, which is an absent block with a warning. A reader whose block does not match takes the journal lock and looks again, which tells eviction
// from damage.
//
// # Deleted by hand
//
// A directory that somebody has deleted is made again within some 5 s, if its place is on the same filesystem as before
// (it may be unmounted just now). Files that are open go on with what they have and keep nothing more; nor do they take
// for theirs what another process has made anew under their names.
//
// # Several processes
//
// Locks are open-file-description locks on single bytes. In KEY.lock:
//
//	 0      exclusive while appending, punching, rewriting, and opening
//	 1      shared while open; exclusive to remove the file
//	 2      shared while pinned
//	 3      shared while the kernel reads the data file itself; exclusive to punch holes
//	16+b    exclusive while a process fetches block b (Claim)
//
// In lock: byte 0 shared while the directory is open, exclusive for a later version that converts it; 1 exclusive
// while the directory is set up; 2 exclusive while measuring how much is used and making room. No lock but those of claims is waited for longer than
// 5 s, so that a stopped process does not stop the others.
//
// What one process appended, the others read from the journal without a lock: an fstat, at most every 10 ms and only
// on a miss, and the new records if there are any. A claim is given up only when the block it was for is in the
// journal, so who waited for it finds the block present.
//
// # Making room
//
// How much is used is what the filesystem says is allocated, so there is no count to go wrong in a crash. Between two
// looks (2 s at most) a process writes within an eighth of the room it saw. One process never exceeds the limit by
// more than the filesystem's own blocks of a file's extents; several that fill the last eighth at the same moment
// can by one lease each, and the next look takes it back.
//
// When a block does not fit, or once a minute and at the start if there is too much (the limit was lowered, or others
// fill the disk), room is made in this order:
//
//  1. whole files that no process has open, the least recently used first;
//  2. cold blocks of files that are open in this process but not pinned;
//  3. cold blocks of pinned files.
//
// Files marked by [Store.Keep] lose nothing.
//
// A block is cold if it was neither read nor written in this era of ten minutes nor in the one before. So a guest does not
// lose what it is using, and a scan larger than the cache does not push out a boot's blocks: it goes uncached. A file
// that another process has pinned is left to that process; one that the kernel reads itself (Data) loses nothing.
//
// # Locks in memory
//
// In this order: quota.mu (held over looking and evicting), Store.mu (the table of open files; memory only), journal.mu
// (one per file; held over journal IO and waiting for byte 0), File.mu (presence; memory only). ReadBlock takes
// File.mu for reading, and on a miss journal.mu if it is free.
package store
