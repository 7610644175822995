// Package bundle holds what one release holds: the files of its package, and who
// vouches for them.
//
//   - document: what is kept on disk of a package, so that it is indexed once.
//   - package: an archive that has been indexed, with a verdict on it.
//   - file: a member, the plain content of one, a disk of an XVA archive, a disk made
//     of partition images, or the notes of the release.
//   - content: what a file holds, which is in memory, an image, or made of images.
//   - standing: who vouches for one file, by the verdict.
//   - sidecar: a block list made by a third party, for packages that have none.
//   - candidate: an image that may be that of a partition.
//
// # From an enclosure to files
//
// [Open] takes the document from the disk, or reads the enclosure. Its content
// tells what it is, and the members that describe the others are read whole. A
// sidecar is looked for, and the verdict asked of xvm.Judge. Then the builder
// makes the files, one kind after the other. [Package.Prepare] finds what a
// listing shows: sizes of plain content, and the disk made of partition images.
//
// A package that is one directory of an archive is shown as that directory; xvm.Walk
// decides that. The manifest of an OVA is its .mf. Disks of an XVA archive are
// disk0.img, …, in the order of the machine's devices.
//
// # Plain names
//
// A compressed image "x.gz" is shown as stored, and its plain content as "x". A
// plain name is listed once its size is known. A block list, xz and most zstd files
// tell it. Of the others, members up to 256 KiB are inflated before the directory is
// shown, and those up to 64 MiB behind the first open of any file of the release.
// Larger ones are sized when the plain name is looked up, and that look-up waits. A
// size once found is kept.
//
// # The disk made of partition images
//
// Where a release has images of partitions, disk.img (unless a file of its own
// has that name) shows them as one disk. An image is a partition's if the
// description gives it such a name (sda1), or if it has the draft's (imagefile,
// imagefile2, …). Content that is a disk is none. Without either it is one if it
// begins with a file system, swap or LVM, and has no boot sector. That needs the
// first block of each image, which is read at the first use of the release. If
// names tell that it will be wanted, the directory waits for it; else it is read
// behind that (32 images at most).
//
// Numbers are those of the names, if they are of one disk; else they follow the
// description or the archive. The table is an MBR for partitions 1 to 4 below 2 TiB,
// else a GPT. Its identifiers depend on the package alone. State, note and trust of
// the disk are those of its worst part.
//
// # Block lists and sidecars
//
// A block list counts if the manifest lists it. Nothing of it is believed before
// the whole has matched. A sidecar brings one to a package that has none, or
// vouches for a package that no trusted key signed. The verdict says which is
// used. A server that cannot say whether there is a sidecar keeps the package
// closed.
//
// # Servers without validators
//
// Where only the length tells versions of an archive apart, images that have sums
// are checked before they are served: by blocks, or else whole. For the others there
// is no such protection, and a warning names them.
//
// # Concurrency
//
// A package does not change once it is made, but for its verdict and for what is
// learned of its images. Learned.mu is a leaf. Everything here may be called by any
// number of goroutines.
package bundle
