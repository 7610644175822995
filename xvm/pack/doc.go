// Package pack makes and checks packages, and makes sidecars.
//
// [Pack] writes a package. [Check] reads one whole, and says what proves each of its
// files. [Index] does the same, and writes a sidecar. Any tar, gunzip, sha1sum,
// sha256sum and gpg can read what is written here.
//
// # Words
//
//   - A proof is something that covers all of a file: a sum, a block list, a signature.
//   - A fault is something that is wrong. A warning is what makes a file of no use.
//   - A file is verified if there is a proof and nothing contradicts it.
//   - It is corrupt if something contradicts, and unverified if nothing speaks of it.
//
// # Making a package
//
// The archive holds, in this order: xvm.xml (or description.xml), manifest.txt,
// mf-signature.asc, signature.asc, blocks.txt, profile.txt, the images. So one range
// at its beginning gets all that describes the rest. Headers are ustar where name and
// size fit, else PAX, with owner 0, mode 0644 and one time for all.
//
// Sums and lengths stand before the images, so they must be known first. Each input
// is read once, and its stored form goes into a temporary file without a name. When
// all sums are known, the archive is written and that file copied into it. The price
// is space for the stored images beside the output. To read everything twice would
// compress twice, and could meet inputs that have changed in between.
//
// The same input, options and time give the same bytes, whatever the number of cores.
// Signatures too, if the key is RSA or Ed25519 and kept in a file. gpg dates its
// signatures itself.
//
// Images are cut into blocks, 64 KiB unless asked otherwise. Each is a gzip member of
// its own, or stored plain. An input that is compressed already is stored as it is,
// and listed with the blocks of its plain content. That decodes it once, and refuses
// a damaged one.
//
// # Checking a package
//
// [xvm.Judge] says who vouches for the package, as for a mount. Then one pass over
// the archive compares each file with all sums that the manifest has of it, and each
// image with every block that the list has. Compressed images without blocks are
// inflated, and so checked by their format. What lies between the files must be zeros
// or good tar headers. So one byte changed anywhere is found, but where another byte
// means the same, as padding in a header.
//
// The chunks of an XVA archive are compared with its checksums, and its disks are
// reported in their place. A sidecar is compared as the manifest is, and its block
// list takes the place of the package's own. A list that covers a file counts as far
// as it is verified itself.
//
// That something is merely unproven is no fault, unless the policy requires
// signatures. Then whatever a mount refuses is one.
//
// # Memory and work
//
// A few blocks for each core, buffers of 1 MiB, and 33 bytes for each block of an
// image: of one at a time, for [Index] of all. That is 34 MB for a terabyte in blocks
// of 1 MiB, and 540 MB in blocks of 64 KiB. Compressing, inflating block by block,
// and the digests of a stream run on all cores.
package pack
