// Package image serves one file that is read by blocks. It is a member as stored,
// its plain content, a disk of an XVA archive, or partition images joined to one
// disk.
//
//   - image: a file that comes through the block cache.
//   - set: what the images of one package have in common.
//   - recipe: how the bytes of an image are made out of those of the archive.
//   - base: the compressed image that another image is the plain content of.
//   - listed: of an image whose blocks are in a block list.
//   - kept sums: the sums of an image's blocks, kept from a check of the whole.
//   - head: the first bytes of an image, which tell whether it names other files.
//   - joined: a disk that is made of images of partitions.
//
// # The way of a read
//
// [Image.Open] holds the block list, asks the table in recipes.go for the recipe
// that fits, and opens a file of the cache with it. What the blocks are checked
// against is completed by checks.go. A read goes to that file, past the check of
// the head. The last close ends all that.
//
// # A new recipe
//
// Another way to make an image, such as another compression by blocks, is one new
// file like gzipblocks.go and one line of the table in recipes.go. Nothing else
// knows which recipe made an image.
//
// # Images that name other files
//
// A qcow2, VMDK, QED, VHD or VDI can name other files, by any path that a
// stranger wrote there. A hypervisor that opens it with its own format opens
// those, too. Such images are refused with an [ExternalError], unless
// Env.AllowExternal. The first bytes are examined when an image is opened, and
// fetched if need be. 4 KiB tell the format; 128 KiB are read if that format can
// name files.
//
// Images come lazily, so this holds besides. None of the first 4 KiB is given out
// before it has been examined. What was examined is kept while the image is open,
// and compared with what is read: a server cannot show something else the second
// time. A local file is handed to the kernel only if it begins with the same
// bytes. If the first bytes cannot be had, the image opens, and reading them fails
// until they can.
//
// # Plain content
//
// The size of plain content is told by the package, by a block list, or by the
// format (the index of xz, the seek table of zstd). Else the stream is inflated
// to its end. The length field of gzip is not believed: it is modulo 2^32, and
// that of the last member only. Plain content is verified when a sum of the whole
// matches. It is too when it was inflated without an error from a verified image.
//
// # Sums kept, blocks shared
//
// Once an image without a list is verified, the sums of its blocks are kept. From
// then on it is checked block by block ("kept"), so that what is fetched again
// after an eviction cannot be anything else. The sums of all images make an index
// from sum to place. An open image whose blocks are known takes blocks that
// another image has. They are compared and copied, so that an upgrade fetches
// what changed.
//
// # Boot profiles
//
// A profile says which parts of an image a boot reads, and the cache fetches them
// ahead of the guest. The first that names the image is taken: Env.ProfileReads, one
// recorded on this host, the package's, that of an earlier release. The latter is
// carried over by block sums where both images have them, else by offset if the sizes
// agree. The first three minutes of reads of eight boots are recorded, at most 2000
// runs or 256 MiB, and merged: what half of them read. Less than 1 MiB is a look and
// more than half of the image a copy: neither is kept. [Warm] fetches by the profile
// before anyone opens the image.
//
// # Locks
//
// Image.mu is held while a file of the cache is opened or closed, which is local
// work. It comes before the mu of its base, and before those of the archive's
// content, HeldBlocks, ListMemory, BlockSums and recorder. All these come before
// the locks of package cache. ListMemory.mu comes before BlockSums.mu.
// HeldBlocks.mu comes before heldFile.mu and is held while documents of the store
// are read.
package image
