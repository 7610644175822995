// Package xvm reads virtual machine packages, and decides who vouches for them.
//
// It does no network and no file access, except in [LoadKeyring] and
// [KeyringStamp]. Archives are read through [ReaderAt]; everything else is parsed
// from bytes that the caller has. All of it comes from strangers: every parser has
// fixed limits, and none panics. Results are immutable plain data, so that any
// number of goroutines may use them. A [Signer] and a [BlockListWriter] belong to
// one goroutine.
//
// # Words
//
//   - A package is a tar archive of a virtual machine, or a bare disk image.
//   - A member is a file of the archive, as it is stored.
//   - The manifest lists members with their digests; see [ParseManifest].
//   - The block list has a SHA-256 for each block of an image; see [ParseBlockList].
//   - A sidecar is a block list that somebody else made; see [ReadSidecar].
//   - The description tells what machine to make; see [ParseDescription].
//   - The keyring holds the keys that the reader trusts; see [LoadKeyring].
//   - The verdict says who vouches for the package, and for which files; see [Judge].
//
// # From an archive to a verdict
//
// [Walk] reads the headers of an archive and returns an [Index]: where each member
// is. If all members are in one directory, that directory is the root of the
// package, and names are relative to it. [BareIndex] is the index of a disk image
// that is no archive.
//
// [ReadSmall] reads the members that describe the others. [Judge] takes them, the
// sidecar, the keys and the time, and returns a [Verdict]. It is the one place
// where trust is decided, for the mount and for every command.
//
// The verdict names each file that is served: a good signature was checked over
// it, or a signed manifest lists it, or a signed sidecar has its blocks. Nothing is
// exempt by its name. What is made of members is as good as they are.
//
// A verdict depends on the files, the keys and the time, and on nothing else.
// [Verdict.Stands] tells when it has to be made anew.
//
// # The other parts
//
// [XVADisks] puts the disks of an XVA archive together from their chunks. [Sniff]
// tells the format of an image by its bytes, as QEMU would, and lists the other
// files that it names. [ParseProfile] reads what a boot reads. [Signer] signs for
// pack and demo; with an Ed25519 or RSA key, equal input gives equal bytes.
//
// Each format of ours is described beside its codec: the block list in
// blocklist.go, the boot profile in profile.go, the sidecar in sidecar.go, xvm.xml
// in description_xvm.go. The forms of a manifest are in manifest_format.go, the
// rules for archives in tar_rules.go, those for signatures in signature_policy.go.
package xvm
