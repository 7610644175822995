// Package store keeps blocks of files on the local disk: what was fetched once is there after a restart,
// after a crash, and for every other process that uses the same directory.
//
// # Words
//
//   - A file is a number of blocks of one size. Its [Key] is a hash over its identity: other content is
//     another file.
//   - A block is absent or present. A present block has a checksum that every read compares.
//   - The journal of a file says which blocks are present. The mapping is what a journal says, in memory.
//   - A document is a small piece of data beside the files, named by a kind and any string.
//   - A claim says that a process is fetching a block.
//   - A cold block was neither used in this era of ten minutes nor in the one before.
//   - A pinned file is open by a guest. A kept or held file ([Store.Keep], [Store.SetHold]) is never evicted.
//   - A loose file is open and has no place on the disk: its blocks are not kept.
//
// # Promises
//
//   - A block that ReadBlock returns has the bytes that WriteBlock was given.
//   - A killed process, or a power cut, loses at most the blocks of the last SyncEvery.
//   - All that the directory takes of the disk stays below Options.Limit, in all processes together, and
//     MinFree stays free. One process exceeds the limit by no more than the filesystem's own blocks of a
//     file's extents. Several may at the same moment exceed it by one lease each, which the next look
//     takes back.
//   - A disk that is full or fails gives [ErrFull] ([ErrFailing] is one) or [ErrAbsent], never wrong bytes.
//     The caller then works uncached. That goes for opening a file too: it becomes a loose file, which
//     gets its place within some 5 s of the disk having it again. What the kernel reads by itself
//     ([File.Data]) fails with the disk.
//   - A cache on a disk that is read-only when it is opened serves what it holds; Stats says so.
//   - A directory that is deleted under a running process is made again within some 5 s, on the same
//     filesystem only. Open files keep what they have, and nothing more.
//   - A read of a present block allocates nothing and takes no lock that anyone holds during IO.
//
// # The way of a write
//
// WriteBlock writes the data, and the block is present in this process. The flusher then does for each
// file: fdatasync of the data, append to the journal, fdatasync of the journal. It does so at once for the
// first block after a quiet time, and then every SyncEvery. So a block in the journal is on the disk.
//
// Dropping goes the other way round: punch the hole, append the record, show it. A process that is killed
// between the first two leaves a hole that fails its checksum: an absent block, and a warning. A reader
// whose block does not match takes the journal lock and looks again, which tells eviction from damage.
//
// The formats stand in format.go. Everything in the directory is opened relative to the directory's
// descriptor, without following symbolic links. A directory that is neither empty nor a cache is refused.
//
// # Several processes
//
// What one process appended to a journal, the others read without a lock: an fstat, at most every 10 ms
// and only on a miss, and the new records if there are any. A claim ends only when its block is in the
// journal, so that the process that waited for it finds the block. No lock but a claim is waited for
// longer than 1 s (5 s while the directory is opened), and not so long again soon: a stopped process does
// not stop the others. A file whose journal is locked is read as it is. The lock bytes stand in lock.go.
//
// # Making room
//
// How much is used is what the filesystem says is allocated to blocks, journals and documents. Between two
// looks (2 s at most) a process writes within its lease, an eighth of the room that it saw. Room is made
// when something does not fit, and once a minute if there is too much. The least recently used goes first,
// in this order:
//
//  1. documents, as far as they take more than an eighth of the limit;
//  2. whole files that no process has open;
//  3. cold blocks of files that are open in this process but not pinned;
//  4. cold blocks of pinned files, unless another process pinned them or the kernel reads them itself;
//  5. the other documents;
//  6. files that cannot be fetched again (EvictLast), used a week ago or earlier, beyond 3/4 of the limit.
//
// Kept and held files and the documents named by them stay. A guest does not lose what it is using, and a scan
// larger than the cache goes uncached instead of pushing out a boot's blocks.
//
// # Locks
//
// All methods may be called concurrently. The order of locks is quota.mu, Store.mu, journal.mu and with it
// the lock byte of the journal, presence.mu; then holds.mu or claims.mu, under which no lock is taken.
// Only the first and the third are held over IO. ReadBlock takes presence.mu for reading, and on a miss journal.mu if it is free.
package store
