// Package fs mounts the releases of a catalog as a read-only FUSE filesystem.
//
//   - node: a file or directory as the kernel knows it. What it shows is fixed.
//   - handle: an open file.
//   - mode: how the kernel reads an inode, by its page cache or by passthrough.
//   - passthrough: the kernel reads a complete local file itself, but for O_DIRECT.
//   - notifier: the goroutine that tells the kernel which names have changed.
//   - forgetter: the goroutine that has it forget what nobody has looked at for long.
//   - grace: how long a wait goes on after a signal that does not kill the caller.
//
// # The tree
//
//	/                  one directory per release, feed.xml, latest -> newest
//	/REL/              the files of the package, in the directories their names imply
//	/.vmcastfs/        not listed; holds status.json
//
// Files are 0444 and directories 0555, less the umask. Times are the archive's
// for files, the publication date for releases, the feed's for the root. Extended
// attributes user.vmcast.* answer by name and are not listed, so that cp -a and
// rsync -X leave them alone.
//
// # Nodes never change
//
// What changes is the root's list of names. A refreshed feed.xml, a moved "latest"
// and a replaced archive are new nodes under the old name, and an open file keeps
// its node. So the kernel may keep attributes, entries and pages of a release for an
// hour, and bytes of two generations cannot mix. The feed can change two things of
// a release: its date, and its notes.html, whose name the kernel keeps for a second.
//
// go-fuse tells nodes apart by inode number and generation. The number is the
// stable one that stat shows. The generation is 64 bits of a SHA-256 over the
// identity of the node: two names whose numbers collide still are two nodes.
//
// Entries of the root live one second, and the notifier also drops the changed ones
// at once. Lookups in the root never wait, so a notification, which needs the
// directory's lock, cannot get stuck behind the network. A release that left the
// feed stays visible as long as the catalog has it.
//
// # Waiting
//
// ls, stat, df and getfattr answer from memory. Only the first look into a
// release waits for its index, and the first look at a name for its size. Waits
// and reads end at once when the caller is being killed. After another signal
// they go on for the grace: a profiling tick shall not turn a slow read into
// EINTR (interrupt.go). The context passed down ends when the request is
// answered.
//
// A waiting read takes one of the requests that the kernel lets be under way. An
// image may take as many as are free, so that cached images always find some
// (slots.go). A read beyond that fails with EIO.
//
// A read that has failed after a wait is remembered for a quarter of a second.
// The kernel asks a second time for a page whose read-ahead has failed.
//
// # One mode per inode
//
// Mixing the modes of an inode fails open(2) with EIO. So the mode is chosen when
// the number of opens goes from zero to one, and kept until it is zero again
// (iomode.go). go-fuse switches passthrough off for the whole mount when one
// registration fails. So a file is registered on trial first, and refused files
// are served from the page cache. When the disk of the local file dies, no
// request reaches us. Reads by passthrough fail with EIO until the last open file
// of the inode is closed.
//
// # Concurrency
//
// vfs.mu and ioMode.mu are leaves: no lock is taken and nothing that can wait is
// called while one is held. No call into go-fuse is made with a lock held. POSIX, OFD
// and flock locks stay in the kernel, which is all that hypervisors on one host need.
package fs
