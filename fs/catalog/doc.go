// Package catalog joins a feed, the packages its items name and the block
// cache into releases and files. It knows nothing of FUSE: the mount shows
// what it holds, and list, verify and prefetch use it directly.
//
// # From feed to bytes
//
// [Catalog.Start] loads the last good feed and refreshes it; each good feed
// becomes an immutable [Snapshot] of [Release] values. A release is indexed at
// its first use ([Release.Package]): the tar headers are walked by ranges, the
// members that describe the others (xvm.xml, manifest, signatures) are read
// whole, and all that is persisted under the item's id and URL together with
// the archive's identity, so that it happens once. What the walk will want is
// asked for beside it: the tail of the archive, and the rest of a block list that
// the first 128 KiB begin. A [Package] holds [File]
// values: small ones in memory, images through the cache, and for each
// compressed image "x.gz" its plain content as "x".
//
// # What an enclosure may be
//
// It is told by its content, not by its name or type: a tar archive; an archive
// compressed as a whole (gzip, xz, zstd, bzip2), which is inflated once, as one
// stream, into a file of the cache from which its members are cut; a bare disk
// image, or a compressed one, which becomes the one file of its release. A raw
// image that begins like nothing known is the exception: it counts as an image
// if its name ends like one's. What is neither is refused with what was found.
//
// A package that is one directory of an archive ("tar -cf x.xvm mydir") is shown
// as that directory: its files are at the root of the release, where xvm.xml, the
// manifest and the signatures are looked for. [xvm.Walk] decides that, so it holds
// for every command.
//
// OVA archives are tar archives whose manifest is their .mf. Of an XVA archive
// the disks are shown as disk0.img, …, in the order of the machine's devices:
// chunks that are absent are zeros, and each chunk is compared with its checksum
// in the archive before anybody sees it, which makes the whole "verified" as a
// manifest would. Its headers, two for each MiB, are read many at a time.
//
// An archive with ranges is indexed within half a minute or not at all. One that
// must be read whole first, or has brought 256 headers by then, takes as long as
// that takes; meanwhile [Release.PackageSoon], which listings use, gives
// [ErrIndexing].
//
// # Partition images
//
// The drafts' packages hold images of partitions. Where a release has some,
// disk.img (unless a file of its own has that name) shows them as one disk: a
// partition table made here, each partition from a whole MiB on, filled up with
// zeros to a whole sector. Its bytes come through the images, so they are cached
// once and checked as those are, and state, note and trust are those of the worst
// part; user.vmcast.parts lists them. The table is an MBR for partitions 1 to 4
// below 2 TiB, else a GPT; its identifiers depend on the package alone.
//
// An image is a partition's if xvm.xml or description.xml gives it such a name
// (sda1) or it has the draft's (imagefile, imagefile2, …), unless its content is a
// disk or no raw image; without either, if it begins with a file system, swap or
// LVM and has no boot sector. Numbers are those of the names, if they are of one
// disk; else they follow the description or the archive. Images of 0 bytes are
// left out; more than 128 make no disk. This needs the first block of each image:
// it is read at the first use of the release, before its directory is shown if
// names tell that it will be wanted, else behind it (32 images at most), and when
// disk.img is looked up, which waits, also for plain sizes. What was found is kept
// with the index.
//
// # Images that name other files
//
// A hypervisor that opens a qcow2, VMDK, QED, VHD or VDI with its own format
// opens what that names, too: a backing file, a data file, extents, of whichever
// path a stranger wrote there. Such images are refused, with an [ExternalError],
// unless Config.AllowExternal. The check is made when an image is opened, with
// its first bytes (4 KiB, which tell the format; 128 KiB if that can name
// files), fetched if need be. Images come lazily, so this holds besides: none of
// the first 4 KiB is given out, now or later, unless they have been examined,
// and what was examined is kept while the image is open and compared with what
// is read, so that a server cannot show something else the second time; a local
// file is handed to the kernel only if it begins with the same bytes. Names that
// would lie beyond 128 KiB refuse the image as well. If the first bytes cannot
// be had, the image opens, and reading them fails until they can.
//
// # Generations
//
// Every byte of a package comes from one version of one archive: the identity
// (validator and length) of the first answer is pinned, remote checks it on
// each later one, and it is part of the key under which blocks are cached.
// When a server answers with another version, the release object is replaced
// by a new one that indexes afresh; open handles keep the old one, which goes
// on serving what the cache has and fails with [archive.ErrReplaced] for the rest.
// Of an archive that is all in the cache nothing is fetched any more, so a
// conditional request of a byte at most asks besides: behind an open, once a
// minute at most, and after each look at the feed. A server that is down, or
// answers 404, does not change anything.
//
// Of a server that sends neither an ETag nor a date, only the length tells
// versions apart. Then what has sums is checked before it is served: block by
// block where blocks have sums (a block list, or kept from an earlier check), else
// the whole before the first byte, as under Config.Strict, whatever that says;
// FileStatus.Verify is "strict" and VerifyNote why. What does not match is corrupt
// as ever, and the release is indexed anew, as a new generation. For what nothing
// sums, and for the chunks of an XVA archive, whose checksums are replaced with
// them, there is no such protection: such images are "unverified", with a warning
// that names them.
//
// A URL is where an archive is, and not what it is: one that is signed anew at
// each look at the feed ([feed.URLKey] knows the usual ways) stays the same
// archive, of which each answer proves that it is. When a URL has expired (401,
// 403, 404, 410), the read that found out has the feed looked at, at most once a
// minute, and goes on at the fresh URL. Any other change of the URL is a new
// generation, and so is a release that left the feed and comes back: what it was
// may still be in use.
//
// # Waiting for a listing
//
// What a listing needs and does not have yet (an index, a plain size) is waited
// for until the server has failed for some seconds, whatever hard or soft say:
// those are for content.
//
// # Plain content
//
// "x" is inflated from the stored "x.gz" in the cache, so that its bytes cross
// the network once and the stored sums are checked on the way. Its size is
// shown only when it is known: from an XVM2 manifest, from the format (the
// index of xz, the seek table of zstd), or from having inflated the stream to
// its end. gzip's own length field is not believed: it is the length modulo
// 2^32 of the last member only. So a plain name whose size nothing tells is
// not listed at first; members up to 4 MiB are sized before the directory is
// shown, those up to 64 MiB behind it, larger ones when their plain name is
// first looked up, and that look-up waits. A size once found is persisted.
//
// # What is verified
//
// A file in memory is checked when the package is indexed. An image is checked
// while it is completed in the background, which happens as long as somebody
// has it open. Plain content counts as verified when an XVM2 manifest's sum of
// the whole matches, or when it was inflated without an error from a stored
// file that is verified. Sums of a part only, as one packager wrote them,
// leave it "unverified".
//
// # Block lists
//
// When the manifest lists blocks.txt, each block of the images in it is
// compared before it is served, from the first read on; FileStatus.Verify says
// "block". The list is read through the cache, and nothing of it is believed
// before the whole matches the manifest. It is in memory while one of the
// images is open, 256 MiB for all lists at most; those that no image needs go
// when there is need (48 MiB may stay). It is read once when a package is indexed, if sizes are
// wanted of it or it came with the first request, and else when an image is
// opened; it is not part of the persisted index. A list that does not match
// its sum, or contradicts the sizes of the archive, opens no image of the
// package: reading them unchecked would be what an attacker wants. One that no
// manifest vouches for is ignored.
//
// An image compressed block by block is read from the archive by ranges of
// whole blocks, inflated on all cores; what is stored as "x.gz" is not kept
// unless somebody reads that. A block that does not inflate is given on as
// zeros, which its sum refuses: so damage costs one block, EIO, and the state
// of the image stays "partial". Zero blocks are never asked for.
//
// # Sidecars
//
// With Config.Sidecar a package without a list may have one beside it
// (xvm.Sidecar), for its stored members and their plain content, with the
// seek points of ordinary gzip. It is used if it is signed as the policy asks (with
// a keyring: well, or under sig=ignore not at all; without one the operator's
// word is enough), if it names the same members in the same sizes, and if the
// small files that were read have the sums it gives. Where signatures are
// required, one that a trusted key signed vouches for the package, whose
// publisher signed it with another key or, as with OVA, XVA and disk images, not
// at all: Trust.By is "sidecar" then, its small files have been compared, and an
// image opens if the sidecar has blocks of it. It vouches likewise for files that
// a publisher's signed manifest does not list, or by MD5 only. So it does for a
// package with a list of its own that no trusted key signed: the sidecar's takes
// the place of that list, which is not read then, nor opened where signatures are
// required. What was seen of such a release is its manifest, else that of the
// sidecar. A sidecar that is not fit is warned of and not
// used; a server that cannot say whether there is one keeps the package closed
// until it can. What was signed is kept with the index, so that it is judged
// anew in each process; the sidecar of a server is kept in the cache. A list
// changes the key of an image in the cache: what is there under that key was
// checked against that list. What is there under the other key is compared and
// taken over.
//
// # Sums kept, blocks shared
//
// Once an image without a list is verified, the sums of its blocks are kept
// (32 bytes each, none for zeros; images beyond 128 GiB of data are left out, and those
// that find 64 MiB of memory taken by others),
// computed while the whole was checked. From then on it is checked block by
// block ("kept"), so that what is fetched again after an eviction
// cannot be anything else, and it is verified again as soon as all is here. In
// between the state is "partial": status looks at the journal of the cache, not
// at what it was when it was closed.
//
// The sums of all images make an index from sum to place (8 bytes a block, 4 Mi
// blocks, 512 images, the most recently used first). It exists while an image
// is open whose blocks are known and of which something is missing; a block
// that another image has is compared and copied, sharing its disk space where
// the filesystem can, so that an upgrade fetches what changed (TestUpgrade: of
// 2 % changed blocks 2 %). Images that are inflated as a stream do not take
// part as takers: they are produced in order anyway.
//
// # What was seen
//
// Package trust remembers, outside the cache, what each release was when it was
// first seen, and the newest release; its alarms (changed, replayed, rollback) are
// in status, list and log. Where signatures are required only what a trusted key
// signed counts as seen; the newest release is indexed by itself for that. There
// the release of an alarm is refused until the operator accepts it; a feed that
// went back is not shown while a newer one is known (and neither is it kept as the
// last good one); if none is, it is shown and nothing of it served.
//
// A manifest with the line "# vmcast-release: ID" (pack --guid writes it) is good
// for that id only, also on a host that has seen nothing yet; another cannot be
// accepted, only packed anew (S5).
//
// # Boot profiles
//
// A profile (package xvm has its form) says which parts of an image a boot reads,
// in order; the cache fetches them ahead of the guest ([cache.File.Follow]). The
// first that names the image is taken: Config.ProfileReads, one recorded on this
// host, profile.txt of the package unless the manifest contradicts it, or of its
// sidecar. A wrong one
// costs some bytes; what is read is checked as ever.
//
// Unless this host has recorded one already, what is read of an open image is
// noted, in units of 64 KiB, each once: for three minutes from the first read,
// until the last close, or up to 2000 runs or 256 MiB, whichever comes first
// (profile.go). It is kept as a document under the key of the image, and read as
// user.vmcast.profile. Less than 1 MiB is a look and more than half of the image a
// copy: neither is kept. Noting a read costs a look-up in a map. Reads that the
// kernel answers by itself (pages it has, passthrough) are not seen.
//
// # Locks
//
// Catalog.mu, Release.mu, Package.mu and feedWatch.mu are leaves and never held
// over I/O. image.mu is held while a file of the cache is opened or closed, and
// an image's before its base's; wholeArchive.mu, heldBlocks.mu and
// listMemory.mu (before blockSums.mu) come after image.mu. All come before the
// locks of package cache, but for heldBlocks.mu, under which the store is read,
// and that of trust.State, which is held over its file: after those nothing else is
// locked.
package catalog
