// Package xvm reads and writes virtual machine packages: the tar archive, its
// manifest, signatures, block list and description, and tells what format a
// disk image has. It does no network and no file access of its own, except for
// [LoadKeyring]; archives are read through [ReaderAt], everything else is
// parsed from bytes already fetched. All of it comes from strangers: every
// parser has fixed limits, none panics, and what it returns is plain data.
// All results of parsing are immutable and may be shared between goroutines.
//
// # Archive
//
// [Walk] finds the members of a tar archive by reading its headers only. Of a
// package that is one directory of the archive, that directory is the root: all
// names are relative to it ([Index].Root).
//
// [XVADisks] puts the disks of an XVA archive together: ova.xml, then for each
// disk its stored chunks of 1 MiB as Ref:N/00000000, …, absent ones being zeros,
// each followed by a .checksum (SHA-1) or .xxhash (XXH64) of it.
//
// # Manifest
//
// [ParseManifest] reads, line by line and told apart by form:
//
//	hex  name            md5sum, sha1sum, sha256sum, sha512sum; the algorithm by the length of hex
//	hex *name            the same, binary mode
//	\hex  na\\me         the same, with escapes (\\ \n \r)
//	hex name             md5 -r
//	SHA256 (name) = hex  BSD tags, as sha256sum --tag prints them; also with a leading \
//	SHA256(name)= hex    OVF .mf files and openssl; also SHA-256, SHA2-256
//	name size md5        XVM2 as Enomaly's packager wrote it
//
// CRLF, a byte-order mark, blank lines and comments (#) are accepted. An XVM2
// line looks like a GNU line whose name is odd, so the first line that is not
// tagged settles which of the two a manifest is made of. Names are brought to
// the form members have: relative, without "." and empty components; asking by
// any spelling finds them.
//
// A name may have one sum of each algorithm, and all of them must match. Two
// different sums of one algorithm, a name with "..", control characters or
// other than UTF-8, a NUL byte, armor around the manifest or no digest at all
// refuse the manifest as a whole (S2, S3, S6, T18). A digest of unknown kind,
// length or alphabet is reported by [Manifest.Unsupported] and proves nothing
// (S4). MD5 is checked, since XVM2 has nothing else, but weak says that
// it excludes accidents only. A line in no known form is skipped with a
// warning, as sha1sum -c does; what it was to list counts as unlisted.
//
// The MD5 of XVM2 is that of the plain disk, under its name without ".gz" —
// or, by a fault of the one packager known, that of the first MiB. [Plain]
// therefore holds alternatives, one of which must match; the second, if it is
// the one that does, says nothing of the rest of the disk.
//
// The comment "# vmcast-release: ID" says that the manifest is for the release
// with this guid and no other ([Manifest.Release]; the first one counts), so that
// what was signed for one release cannot come back as another.
//
// [AppendGNU] and [AppendTag] write lines that the tools of coreutils check,
// [AppendRelease] writes that comment.
//
// # Block list
//
// The member blocks.txt holds a SHA-256 for each block of each image, so that a
// block can be checked before a guest sees it. It is itself listed in
// manifest.txt, and so covered by the signature. It is text; every line ends in
// LF or CRLF; fields are separated by one blank; numbers are decimal digits:
//
//	list   = "vmcast-blocks 1" image* "end"
//	image  = "image" NAME head* "blocks" COUNT block*
//	head   = "size" BYTES | "block" BYTES | "member" NAME | KEYWORD anything
//	block  = SHA256 [LENGTH] | "zero" COUNT [LENGTH]
//
// Each item is a line. size is that of the plain image, block the power of two
// from 4096 to 8388608 into which it is cut, COUNT the number of blocks, of
// which the last may be short. SHA256 is that of a block's plain content; a
// "zero" line stands for that many blocks of zeros. With member, the named
// member of the package holds every block compressed on its own, as one gzip
// member each, zeros included, in order and without gaps: LENGTH, then on every
// line (on a zero line: of each of its blocks), is that of the compressed block,
// and its offset is the sum of those before. Without member there is no LENGTH,
// and the image is stored plain, or in a way that the list does not describe.
// Unknown keywords in a head are ignored, so that they may carry hints; whatever
// changes the meaning of a list changes its version. Nothing follows the end,
// and a list without it was cut.
//
// Standard tools make a list, and check one without zero lines:
//
//	s=$(stat -c %s root.img)
//	{ echo vmcast-blocks 1; echo image root.img; echo size $s; echo block 65536
//	  echo blocks $(( (s + 65535) / 65536 ))
//	  split -b 65536 --filter='sha256sum | cut -c1-64' root.img
//	  echo end; } >blocks.txt
//	split -b 65536 --filter='sha256sum | cut -c1-64' root.img |
//	  diff - <(grep -xE '[0-9a-f]{64}' blocks.txt)
//
// A gigabyte in blocks of 64 KiB makes a list of 1.1 MB (1.2 MB compressed
// blockwise), half a megabyte in memory (32 bytes a block, 40 compressed, 1.5
// bits for zeros). Offsets are not written since hostile ones could overlap.
//
// # Boot profile
//
// The member profile.txt, listed in manifest.txt, tells what a boot reads, so
// that it can be fetched before it is asked for. It is a hint and changes
// nothing of what is checked. It is text; every line ends in LF or CRLF:
//
//	profile = "vmcast-profile 1" read*
//	read    = NAME OFFSET LENGTH
//
// Each item is a line. NAME is that of a plain image, OFFSET and LENGTH are
// bytes in decimal digits, separated by one blank each; a name may hold blanks,
// so that a line is to be read from its end. Reads stand in the order in which
// the boot made them; they may overlap and come again.
//
// # Sidecar
//
// A sidecar gives a package of somebody else's what ours have: a block list,
// and seek points for compressed members (of xz its blocks, of zstd its frames:
// package seekable says why no others). The sidecar of the package P is called
// P.sidecar. It is a tar archive of these files, in this order:
//
//	package.txt        what package it is of
//	manifest.txt       SHA-1 and SHA-256 of package.txt, profile.txt, blocks.txt and points/…
//	mf-signature.asc   detached signature of manifest.txt by whoever made it; may be missing
//	profile.txt        boot profile; may be missing
//	blocks.txt         block list
//	points/NAME        seek points of the compressed member NAME, as package seekable saves them
//
// package.txt is text, each item a line:
//
//	package = "vmcast-sidecar 1" "archive" SIZE SHA256, member* "end"
//	member  = "member" SIZE SHA256 NAME
//
// The archive line has length and SHA-256 of the whole package, of one that is
// compressed as a whole those of its plain content; a member line those of one
// file, as it would be extracted, its name relative to the package's root; all
// files are there, in the order of the archive. A disk image that is in no archive is the one file of a package
// without headers. The disks of an XVA archive are images disk0.img, … of
// blocks of 1 MiB, and their chunks are none. In blocks.txt an image's name is that of a member as stored
// (root.img, swap.img.gz) or of the plain content of a compressed one
// (swap.img), never with a "member" line. Small files that describe the others
// (xvm.xml, manifest.txt, signatures) have no blocks.
//
// Version 1 has the same form. The gzip decoder that made it was wrong about some
// streams. So its blocks of plain content of compressed members, and their seek
// points, are not used.
//
// A reader may use a sidecar if its manifest is signed as the policy asks,
// [Sidecar.Match] agrees, and the small files, which it has anyway, have the
// sums of their member lines. If it is of another package in spite of that,
// blocks will not match, and so no wrong byte is served. Whoever makes a sidecar
// vouches for having compared the package with its own manifest, and by signing
// it for the package; it depends on the reader whether that stands in for a
// signature of the publisher.
//
// # Signatures
//
// mf-signature.asc signs manifest.txt, signature.asc signs xvm.xml. Keys come
// from [LoadKeyring] only; keys found in a package are ignored (S11).
// [Keyring.Verify] counts a signature if all of this holds:
//
//   - It is a detached OpenPGP signature, armored or binary, over a binary or
//     text document. Messages that carry their own text, inline or cleartext,
//     are refused (S6). What stands around the armor is ignored; of several
//     signatures one must be good, and the faults of the others are told (S7).
//   - Its digest is not MD5, SHA-1 or RIPEMD-160 (S8). In self-signatures of the
//     trusted keys SHA-1 is accepted: old keys have no other.
//   - Its key, and the primary key above that, is not RSA or DSA below 2048
//     bits, not secp256k1, and not broken in other ways go-crypto knows (S8).
//   - The key may sign, is bound to its primary key in both directions, and has
//     not expired now (S9). As in GnuPG, the latest self-signature tells;
//     go-crypto's own check asks for one that is older than the signature,
//     and so refuses whatever an owner signed before extending the key's life.
//   - The key was not revoked; of one revoked as superseded or retired, what it
//     signed before still counts (S9).
//   - The signature is not expired, not older than its key, and not dated more
//     than ten minutes into the future (S9).
//   - It has no critical notation: none is known.
//
// Whether a signature is asked for, which members must be listed, and what was
// seen before is decided by the caller. A signature does not name the release
// it is for: it is the caller who must notice an old manifest in a new release
// (S5, S10).
//
// [Signer] signs for pack and demo. With an Ed25519 or RSA key it gives the same
// bytes for the same input and time.
//
// # Description
//
// [ParseDescription] reads xvm.xml, a libvirt domain (description.xml), an OVF
// descriptor or the ova.xml of an XVA archive into one [Description]. The
// drafts' element list of xvm.xml is lost; this is what
// [Description.MarshalXVM] writes, all of it optional:
//
//	<xvm version="1">
//	  <name>debian-12.5</name>  <description>…</description>  <uuid>…</uuid>
//	  <arch>x86_64</arch>  <memory unit="MiB">512</memory>  <vcpu>2</vcpu>
//	  <firmware>bios|uefi</firmware>  <machine>hvm|pv</machine>
//	  <kernel>vmlinuz</kernel>  <ramdisk>initrd.img</ramdisk>  <cmdline>root=/dev/vda1 ro</cmdline>
//	  <disk file="root.img" type="cdrom|floppy" target="vda" bus="virtio" format="raw" readonly="yes" boot="1"/>
//	  <interface model="virtio" mac="52:54:00:12:34:56" network="default"/>
//	</xvm>
//
// Of OVF, two ways to store a file are not undone: ovf:compression="gzip" under
// a name without suffix, and ovf:chunkSize, which cuts a file into members
// called NAME.000000000 and so on. Such members are shown as they are stored;
// Description.Warnings says so.
//
// Of other people's documents the usual other names of these things are
// understood (ram, cpus, initrd, imagefile, vif, …), under any root element,
// and what is unknown is ignored.
//
// What a document may do to a host decides what is read of it (C4, T18, F1, F2,
// F6): a DOCTYPE, a size beyond 1 MiB, more than 64 levels or 20 000 elements
// and attributes refuse it. Files are names of members; of a path of the host
// only the last component is left, and "..", ":" and "\" are refused. Targets,
// buses, models, formats and architectures come from closed lists, text loses
// control and bidirectional characters. Emulator, its command line, loaders,
// host devices, shared directories and the like are left out, and
// Description.Warnings says so.
//
// # Image formats
//
// [Sniff] tells the format of an image by the same bytes by which QEMU probes
// it, and lists the other files an image names (C3): for a caller to refuse,
// since a hypervisor told to guess the format would open them on the host. A
// VHDX keeps its parent's name beyond the bytes shown; QEMU refuses those.
package xvm
