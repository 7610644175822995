// Package pack makes and checks packages: [Pack] writes one, [Check] reads one
// whole and says what of it is proven by what, [Index] does the same and writes
// a sidecar. The forms are those of package xvm; any tar, gunzip, sha1sum,
// sha256sum and gpg can read what is written here.
//
// # Making a package
//
// The archive holds, in this order: xvm.xml (or description.xml), manifest.txt,
// mf-signature.asc, signature.asc, blocks.txt, profile.txt, the images. So one
// range at its beginning gets all that describes the rest. Headers are ustar
// where the name and size fit, else PAX; owner 0, mode 0644, one time for all.
//
// What comes first depends on what comes last: sums and lengths must be known
// before the first image is written. Each input is therefore read once, and its
// stored form goes into a temporary file (unlinked at once, so that nothing
// stays behind); when all sums are known the archive is written and that file
// copied into it, which the kernel does by itself (copy_file_range). The price
// is space for the stored images beside the output for a while. The other way,
// to read everything twice, would compress twice and could meet inputs that
// have changed in between.
//
// The same input, options and time give the same bytes, whatever the number of
// cores. Signatures too, if the key is RSA or Ed25519 and kept in a file; gpg
// dates its signatures itself.
//
// Images are cut into blocks (64 KiB unless asked otherwise), each a gzip
// member of its own, or stored plain. An input that is compressed already (.gz,
// .xz, .zst, .bz2 by its name) is stored as it is, and listed with the blocks of
// its plain content; that decodes it once, and a damaged one is refused.
//
// # Checking a package
//
// One pass over the archive as a stream, plus the small reads of the tar walk
// and of what describes the rest. For each file: all sums the manifest has of
// it; for each image: every block that the list has, from the plain content,
// after inflating it; for compressed ones without blocks, whatever checks the
// format has. What lies between the files must be zeros or good tar headers.
// So one byte changed anywhere is found, except where another byte means the
// same: the sum in a tar header may be padded with zeros or blanks.
//
// The chunks of an XVA archive are compared with its checksums, and its disks
// reported in their place. A sidecar is compared as the manifest is, and its
// block list taken for the package's own.
//
// A file is "verified" when at least one sum, block list or signature covers
// all of it and nothing contradicts; "unverified" when nothing speaks of it;
// "corrupt" when something contradicts. A list that covers a file counts only as
// far as it is verified itself. A [Report] has faults exactly when something is
// wrong; that something is merely unproven is no fault, unless the policy
// requires signatures: then what a mount would refuse is one, also what a signed
// manifest lists by MD5 only, unless a sidecar that a trusted key signed covers it.
//
// What is no fault and yet makes a file of no use is a warning, of Pack and
// Check: an image that names other files, which mounts refuse to open.
//
// # Memory and work
//
// A few blocks for each core, 1 MiB buffers, and 33 bytes for each block of the
// image at hand, of all images for Index (34 MB for a terabyte in blocks of
// 1 MiB, 540 MB in blocks of 64 KiB). Compressing, and inflating block by block,
// run on all cores; the digests of a stream run beside each other.
package pack
