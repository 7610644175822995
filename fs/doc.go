// Package fs mounts the releases of a catalog as a read-only FUSE filesystem.
//
// # The tree
//
//	/                  one directory per release, feed.xml, latest -> newest
//	/REL/              the files of the package, in the directories their names imply
//	/.vmcastfs/        not listed; holds status.json, made afresh by every open
//
// Files are 0444 and directories 0555, less the umask. Times are the archive's
// for files, the publication date for releases, the feed's for the root.
//
// # Nodes never change
//
// Everything about a node (content, size, times, inode number) is fixed when it
// is looked up. What changes is the root's list of names: a refreshed feed.xml,
// a moved "latest" and a replaced archive are new nodes under the old name, and
// whoever holds the old one keeps it. The feed can also change two things of a
// release: its date, and its notes.html, whose name the kernel keeps for a second only. So the kernel may keep attributes, entries
// and pages of a release for an hour, and bytes of two generations cannot mix.
// go-fuse tells nodes apart by inode number and generation; the number is the
// stable one that stat shows, the generation is 64 bits of a SHA-256 over the
// identity of the node, so that two names whose numbers collide, by chance or by
// design of a hostile feed, still are two nodes.
//
// Entries of the root live one second, and the notifier (one goroutine, no lock
// held, notify.go) also drops the changed ones at once. It tells the kernel of
// names in the root only, because lookups there never wait: a notification needs
// the directory's lock, and so cannot get stuck behind the network. Directories
// are dropped with NotifyEntry rather than NotifyDelete: the latter marks the
// kernel's inode dead, and a release that returns to the feed before the kernel
// has forgotten it would stay empty.
//
// A release that left the feed stays visible as long as one of its files is open.
//
// # Waiting
//
// ls, stat, df and getfattr answer from memory, except that the first look into
// a release waits for its index, and the first look at a name may wait for its
// size. Such waits, and reads, end at once (a quarter of a second at most) when the
// caller is being killed, and after [Options].InterruptGrace when it got another signal:
// a profiling tick or a terminal resize shall not turn a read that is merely slow
// into EINTR (or, on a mapped page, into SIGBUS). See interrupt.go. The context
// passed down ends when the request is answered, so nothing outlives it by accident.
//
// A read that has failed after a wait is remembered for a quarter of a second: the
// kernel asks a second time for a page whose read-ahead has failed, and a soft read
// would take twice its time to fail.
//
// # One I/O mode per inode
//
// The kernel serves an inode either from its page cache or by passthrough to a
// local file, never both at once: mixing them fails open(2) with EIO. Hence the mode is
// chosen when the number of opens goes from zero to one and kept until it is
// zero again (iomode.go). An image that completes while open is served from the
// page cache until then. go-fuse switches passthrough off for the whole mount
// when one registration fails, which would break that rule for inodes already in
// passthrough; so a file is registered on trial first, and refused files are
// served from the page cache.
//
// The kernel answers from the local file or not at all: when its disk dies, reads
// of an inode in passthrough mode, and new opens, fail with EIO until the last
// open file of it is closed. No request reaches us, and the kernel has no way to
// take a backing file back from who has it open.
//
// # Locks
//
// vfs.mu and ioMode.mu are leaves: no lock is taken and nothing that can wait is
// called while one is held. POSIX, OFD and flock locks stay in the kernel, which is
// all that hypervisors on one host need. No call into go-fuse is made with a lock held.
//
// # Choices
//
//   - Plain data replies, no splice: with requests of 1 MiB splice fails and logs,
//     and go-fuse's author measured 10 % at best.
//   - KEEP_CACHE and explicit invalidation: content is immutable, so the kernel
//     need not compare times. DIRECT_IO only for status.json.
//   - ASYNC_DIO: without it the kernel sends direct reads of an inode one at a
//     time. qemu-img bench -t none -d 32 over reads that take 2 ms each (2000 of
//     4 KiB, Linux 6.18, 2 cores): 0.20 s with it and 4.6 s without, for native, threads
//     and io_uring alike. The price is that such reads cannot be interrupted, see above.
//   - The kernel reads no more than 64 KiB ahead, half of its default. To us that
//     is a read somebody waits for, and the cache below reads ahead itself. A
//     replayed cold boot fetched 71 MB in 6.9 s then, 73 MB in 7.0 s with 128 KiB,
//     84 MB in 7.7 s with 512 KiB; no sequential read became faster by more.
//   - 256 requests in the background, as reads that wait for a dead server occupy
//     these slots and would otherwise stop read-ahead of cached images.
//   - Extended attributes user.vmcast.* answer by name and are not listed, so that
//     cp -a and rsync -X leave them alone.
//
// # Upgrading under running guests
//
// A new binary does not take over the connection of the old one. What that would
// need, and what there is (Linux 6.18, go-fuse v2.12.1):
//
//   - The descriptor of /dev/fuse kept open while no daemon runs, so that the kernel
//     holds requests back instead of failing them with ENOTCONN: easy, by passing it
//     on or by systemd's FDSTORE.
//   - What the dead daemon had read and not answered, asked again: the kernel can
//     since 6.9 (FUSE_NOTIFY_RESEND), go-fuse knows the number and no more.
//   - A server that starts in the middle: fuse.NewServer takes a descriptor
//     ("/dev/fd/N"), and then insists on the INIT message, which the kernel sent to
//     the daemon before. What it settled (features, sizes) lives in unexported fields.
//   - The numbers by which the kernel calls inodes and open files: go-fuse gives
//     them out from counters in unexported tables, which a new process would have to
//     rebuild exactly. One wrong number is another file's bytes in a guest.
//
// So it takes a fork of the FUSE library, whose every fault strands all guests at
// once; and the need is small, because a guest keeps its image open and nothing
// else. Instead the mount is detached and made again: umount -l (or SIGTERM), then
// mount. The old process serves those who have files open until they close them
// and then ends; the new one serves who comes. Both share one cache. A guest notices
// nothing, and runs on the new binary after its next start. The unit of systemd is
// made such that a restart does just that.
//
// Should the daemon die, reads fail with ENOTCONN (but for what the kernel has
// cached, and passthrough) until guests reopen their images; the next mount
// cleans the dead one away.
package fs
