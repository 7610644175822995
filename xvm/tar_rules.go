package xvm

// Walk reads the headers of an archive by ranges. It reads no content, but for what
// comes along with small members and the map of a sparse one.
//
// Requests: the window into the archive is 4 KiB after a jump. It doubles up to 512
// KiB as long as the next header is within 64 KiB of what has been read. So a large
// member costs one request of 4 KiB, and ten thousand small ones some thirty.
// Members of one size beyond 16 KiB are jumped over as well: a caller that sees
// equal steps can ask for many headers at a time. No byte is asked for twice.
//
// Formats: v7, ustar (POSIX.1-1988), GNU and PAX (POSIX.1-2001); GNU long names and
// links; sizes in octal and base-256; sparse files in the old GNU form and in PAX
// forms 0.0, 0.1 and 1.0; hard links to earlier files. Sources: POSIX.1-2017, pax,
// "ustar Interchange Format" and "pax Extended Header"; GNU tar manual, "Basic Tar
// Format" and "Storing Sparse Files".
//
// The yardstick is GNU tar. An archive is refused where GNU tar, libarchive and Go's
// archive/tar do not agree on a name, a size or content. Its maker's sums were made
// with one reading, and its user may check them with another. The tests compare with
// all three.
//
// Each entry of an archive comes to one of these:
//
//   - It is shown: a Member.
//   - It is hidden, with a reason (Hidden), and the others are shown. Directories are
//     neither.
//   - The walk ends there with a reason (Index.Truncated). What is before it is shown.
//   - The archive is refused (ErrTarRefused), or exceeds a limit (ErrTarLimit).
//
// Names have one form: without one leading "/" (Archipel) and leading "./" (tar of
// "."), with components of 1 to 255 printing UTF-8 characters, joined by "/".
//
// A package may be one directory, as "tar -cf x.xvm mydir" makes it. All members are
// then below it, and directly in the deepest such directory is an xvm.xml,
// description.xml, manifest.txt, ova.xml, *.ovf or *.mf. That directory is the root
// (Index.Root): members have the names that they have there, as sha1sum -c would find
// them. What is hidden does not count. If one member is outside, or a shortened name
// could not be shown, names stay as they are.
//
//	what                                                                   outcome
//	".." component, second "/", "." or empty component inside, backslash,  hidden; but refused if it comes to the
//	  drive letter, control, bidi or other character that does not print,    same path as another entry
//	  not UTF-8, leading "-", a comma (it ends a QEMU option), over 255
//	  bytes in a component, 2048 in all, or 64 components
//	differs from an earlier name in case or Unicode form only              hidden
//	symbolic link, and what is below one; device, pipe, unknown type       hidden
//	hard link to anything but an earlier shown file                        hidden
//	volume label, part of a multi-volume file, old list of names           hidden
//	file cut off by the end of the archive                                 hidden; walk ends
//	no end mark, lone zero block, extended header without a member         walk ends
//	anything behind the end mark                                           not looked at
//	bad header sum (some programs search for the next good header)         refused; at offset 0: ErrNotTar
//	two entries of one path, a path that is a file and a directory         refused
//	content behind a link, directory, device or volume label               refused
//	several extended headers for one member, L or K with x                 refused
//	malformed extended header; doubled, empty or NUL-holding record that   refused
//	  matters; global record that does
//	size that is negative, malformed or above 2^63-1                       refused
//	sparse map that is unsorted, overlaps, leaves the file, differs from   refused
//	  what is stored, ends before the file, or has an inner region that
//	  is not a multiple of 512 bytes (GNU tar pads it, others do not)
//	other sparse forms (star, Solaris), Solaris X and A headers            refused
//
// A file that is cut off is hidden, as it can match no sum, and a guest that has
// booted from it would fail later. An unknown type with content is skipped, as GNU
// tar does. The size of an extended header goes before that of the member's header.
//
// Besides Limits, an extended header or long name has at most 1 MiB. With the default
// limits the walk takes some 100 MiB at worst, for a common archive a few KiB.
