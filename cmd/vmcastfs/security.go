// # Security
//
// What vmcastfs protects against, what it does not, and what each of its words
// proves. The tests that hold it to this are in e2e/testdata/hostile.txt.
//
// # Who is trusted with what
//
//	the kernel, root, the user that mounts    everything
//	holders of keys in the keyring            what they signed: that it is what they published, or, with a sidecar,
//	                                          that it is what they have seen and vouch for
//	the feed's server, and the network        without a keyring: what is mounted. With sig=require: whether anything
//	                                          is mounted at all, in what order it is fetched, and what notes say
//	servers that packages lie on              as the feed's server
//	packages, before they are checked         nothing: every byte is parsed as if an enemy had written it
//	other users of this machine               nothing: cache, state and sockets are closed to them
//	the guest                                 that it reads and writes what its hypervisor lets it
//	the local disk of the cache               to keep bytes, not to keep them right: each block has a checksum, which every
//	                                          read through this program compares. The kernel, which reads verified images by
//	                                          itself (passthrough), compares nothing: "vmcastfs cache verify" does, from a
//	                                          timer, and the mount puts right what it finds
//
// # Threats and answers
//
// A hostile feed, package or server makes the daemon crash, hang, grow or write
// elsewhere: all parsers have limits (below) and fuzzers (.ci/fuzz), a fault in
// one request fails that request, nothing is ever extracted, files have names of
// our making, and the cache knows them by hashes.
//
// It shows something false for a file: names that programs could read
// differently, archives that two programs would read differently and manifests
// that contradict themselves are refused as a whole.
//
// It makes the host fetch from where only the host may: only http and https, at
// most 10 redirects, never from https to http. A public feed leads to public
// addresses only, on every hop, checked at the address that is connected to
// (allow_private lifts that); where a feed came from is kept with it, so that its
// name may point elsewhere later. Credentials go to the origin they are for.
//
// It runs something on the host: nothing of a package is executed, no name
// needs quoting in a shell, a QEMU option or a unit file; descriptions are
// reduced to names of the package's own files and values from closed lists.
// Hooks run without a shell and get what the feed says in their environment.
//
// It deceives who looks: text of others loses control, bidirectional and
// invisible characters before it reaches names, status, log and terminal;
// notes.html holds no script, no form and no reference that is fetched by
// itself. feed.xml, xvm.xml and manifest.txt are shown verbatim, as what they
// are evidence of: look at them with a pager that shows control characters.
//
// It changes an image under a guest: all bytes of a package come from one
// version of one archive, or not at all. A replaced archive is a new directory
// entry with new inodes; who has the old one open keeps it, or gets EIO. Where a
// server sends neither ETag nor date only sums tell versions apart: what has one is
// served once it matches, what has none is warned of.
//
// It brings back what was withdrawn, or replaces what was signed: the newest
// release and the first manifest of each are remembered in state=, outside the
// cache. What contradicts that is an alarm, and is not shown under sig=require
// until `vmcastfs trust accept`.
//
// Another user of the machine prepares directories, links or sockets: what is
// not this user's is refused, links inside of the cache are never followed, the
// directories have mode 0700, and a mount listens nowhere unless metrics= says
// so, and then on a socket of mode 0600 or on loopback. A mount shows nothing
// that its user cannot read; a local feed that another user wrote, or could have
// put in its place, shows that user's files only; ordinary users share their
// mounts only where fuse.conf lets them.
//
// Somebody changes the cache on the disk: a block that does not match its
// checksum is fetched again. That is for accidents: who can write to the cache
// is this user, or root.
//
// Not covered: what a signed image does inside of its guest; a publisher whose
// key is stolen, until it is revoked in the keyring; a feed that is withheld
// (status says "stale", and since when); traffic analysis; kernel and
// hypervisor faults that an image's content triggers. A disk image is a program
// for whoever guesses its format: name it (format=raw). qcow2, VMDK and others can
// name further files of the host: such images are not opened unless allow_external
// is set, and user.vmcast.format tells what an image is.
//
// # What a state proves
//
//	partial      Blocks are as the server sent them, from one version of the archive. Over https that is what the
//	             server had; over http, what anybody on the way made of it. "checked block by block" in the status:
//	             each block was compared with a list before it was served, and the rest of this row does not apply.
//	verified     All of it is here and every sum that the manifest has for it matches; or every block matches the
//	             block list; or it was inflated without an error from a file that is verified.
//	unverified   There is nothing to check it against, or only part of it. It is no better than partial.
//	corrupt      It does not match. Reading it fails with EIO, for good. What a guest has read before that is read:
//	             where that matters, use verify=strict or packages with a block list.
//
//	sig=ignore   Sums come from the same place as the content: they exclude accidents, not intent.
//	sig=require  Manifest and description are signed by a key of the keyring. A member is served if it is one of those
//	             two, if it is the signature over one of them, or if the signed manifest lists it as it is stored.
//	             Every other file of the package is refused, whatever its name is. What is made of members is as
//	             good as they are. Then "verified" means: as the holder of that key published it.
//
// SHA-1, which plain XVM uses, does not keep the signer from making two images
// with one sum; nobody else can. MD5 (XVM2) excludes accidents only. A package
// of `vmcastfs pack` has SHA-256 for files and blocks.
//
// # Limits
//
//	a feed                        16 MiB, decoded; 20000 items; 64 levels; 1 minute for all of it
//	a URL, a header, redirects    8 KiB; 64 KiB; 10
//	pauses between attempts       30 seconds, 2 minutes where a server asks for it; others are listed in cache/remote
//	an archive                    65536 entries, 16 MiB of headers, 262144 sparse regions, 64 TiB apparent size, 32768 requests
//	its indexing                  30 seconds, tried again after 5
//	members held in memory        4 MiB each, 16 MiB for a package
//	manifest                      4 MiB, 65536 sums
//	description                   1 MiB, 64 levels
//	signature file, keyring       256 KiB, 16 signatures; 16 MiB, 1024 keys
//	block list                    4194304 sums, 67108864 blocks; all lists in memory 256 MiB
//	boot profile                  4 MiB, 131072 reads
//	sidecar                       1 GiB, 262144 members, 256 MiB of seek points
//	inflating                     16 TiB plain; 65536 times the stored size; 128 MiB of window or dictionary
//	all that inflates at a time   260 MiB for members, and as much for archives compressed as a whole and for finding out
//	                              what a compressed enclosure is; the rest waits.
//	                              Until the garbage collector has run, twice that is resident
//	finding out plain sizes       5 seconds before a directory is shown, 2 minutes behind it
//	an image                      16 TiB, and what a file of the cache's file system may have
//	the cache                     cache_size=, and cache_free= is left; sparse and zero blocks take no disk
//	names of releases             160 bytes and a suffix; 100000 remembered
//	status of another mount       256 MiB, 5 seconds
//	a hook                        10 seconds, 64 KiB of output; 100 events at a time, corrupt images first
//
// # Fuzzers and soak
//
// CI runs every fuzzer for half a minute, with at most 1 GiB of memory each;
// bash .ci/fuzz 1200 takes twenty minutes for each. In the soak an origin makes
// one request in five fail, in all its ways, restarts and changes validators,
// while 16 readers compare every byte, the daemon is killed every 20 seconds, the
// cache holds a quarter and bits of its files flip: a minute in CI,
//
//	VMCASTFS_SOAK=10m go test -count=1 -timeout 20m -run TestSoak -v ./cmd/vmcastfs/e2e
//
// for ten. That gave, on 2026-11-22 on a busy machine of 2 cores: 49.6 million
// reads, none wrong, 12381 failed as they may, the slowest after 2.2 s; at most
// 107 MiB resident and 45 descriptors; at rest 22 descriptors and 38 goroutines.
//
// # Reporting a fault
//
// Tell the maintainers (the address is that of the Debian package and of the
// commits) and not a public list, with the version (`vmcastfs --version`), what
// was mounted with which options, and, if there is one, the input: the files
// that .ci/fuzz leaves in testdata/fuzz are in the right form. Please leave 90
// days, or until there is a release with the fix, before it is published. Each
// fault comes back as a test named by its row below, or by a row of its own.
package main
