package xvm

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"vmcastfs/xvm/seekable"
)

// A magic is what files of one kind begin with.
type magic struct {
	off   int
	bytes string
	what  string
}

// foreignMagics are those of files that are neither an archive of ours nor a disk
// image, nor compressed in a way that is read here.
var foreignMagics = []magic{
	{0, "\x04\x22\x4d\x18", "an lz4 file"},
	{0, "\x02\x21\x4c\x18", "an lz4 file (of the old form)"},
	{0, "LZIP", "an lzip file"},
	{0, "\x89LZO\x00\r\n\x1a\n", "an lzop file"},
	{0, "LRZI", "an lrzip file"},
	{0, "\x5d\x00\x00\x80\x00\xff", "an lzma file"},
	{0, "PK\x03\x04", "a zip archive"},
	{0, "PK\x05\x06", "an empty zip archive"},
	{0, "PK\x07\x08", "a zip archive in parts"},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{0, "Rar!\x1a\x07", "a rar archive"},
	{0, "MSCF\x00\x00\x00\x00", "a cab archive"},
	{0, "070701", "a cpio archive"},
	{0, "070702", "a cpio archive"},
	{0, "070707", "a cpio archive"},
	{0, "\xed\xab\xee\xdb", "an rpm package"},
	{0, "xar!\x00", "a xar archive"},
	{0, "MSWIM\x00\x00\x00", "a WIM archive"},
	{0, "ISc(", "an InstallShield cabinet"},
	{0, "7kSt", "a zpaq archive"},
	{0, "\xff\x06\x00\x00sNaPpY", "a snappy file"},
	{0, "\x37\xa4\x30\xec", "a zstd dictionary, which is no data"},
	{20, "\xdc\xa7\xc4\xfd", "a zoo archive"},
	{7, "**ACE**", "an ace archive"},
	{0, "-----BEGIN PGP ", "an OpenPGP message, key or signature"},
	{0, "d8:announce", "a torrent"},
	{0, "!<arch>\n", "an ar archive, as .deb packages are"},
	{0, "\x7fELF", "a program, perhaps one that unpacks itself"},
	{0, "%PDF-", "a PDF document"},
	{0, "WARC/", "a WARC archive"},
}

// likelyMagics are those, and of bare images, that are too short, or too far
// inside, to be relied upon. They only say what was meant.
var likelyMagics = []magic{
	{0, "\x1f\x9d", "a compress (.Z) file"},
	{0, "\x1f\x1e", "a pack (.z) file"},
	{0, "\x1f\xa0", "an lzh file"},
	{0, "\x5d\x00\x00", "an lzma file"},
	{0, "bvx", "an lzfse file"},
	{0, "RZIP", "an rzip file"},
	{0, "\x60\xea", "an arj archive"},
	{2, "-lh", "an lha archive"},
	{0, "MZ", "a program of Windows, perhaps one that unpacks itself"},
	{0, "#!", "a script"},
	{0, "\xc7\x71", "a cpio archive"},
	{0, "\x71\xc7", "a cpio archive"},
	{0, "QFI\xfb", "a bare qcow2 disk image"},
	{0, "KDMV", "a bare VMDK disk image"},
	{0, "# Disk DescriptorFile", "a VMDK descriptor"},
	{0, "vhdxfile", "a bare VHDX disk image"},
	{0, "conectix", "a bare VHD disk image"},
	{64, "\x7f\x10\xda\xbe", "a bare VDI disk image"},
	{510, "\x55\xaa", "a bare disk image with a boot sector"},
	{1080, "\x53\xef", "a bare ext file system"},
}

func kindOf(magics []magic, head []byte) string {
	for _, m := range magics {
		if len(head) >= m.off && bytes.HasPrefix(head[m.off:], []byte(m.bytes)) {
			return m.what
		}
	}
	return ""
}

// Foreign names by its first bytes a file that nothing here can read: "an lz4 file".
// "": it may be an archive, a disk image, or compressed in a way that is read here.
func Foreign(head []byte) string {
	const frame = 8 // bytes of the header of a frame to be skipped: its magic number, and the length of the rest
	for len(head) > frame && head[0]&0xf0 == 0x50 && bytes.Equal(head[1:4], []byte("\x2a\x4d\x18")) {
		n := frame + int64(binary.LittleEndian.Uint32(head[4:]))
		head = head[min(n, int64(len(head))):] // lz4 has such frames, too, which say nothing of what follows
	}
	return kindOf(foreignMagics, head)
}

// probe looks at the beginning of the archive and says what it is if it is not a tar archive.
func (w *tarWalker) probe(ctx context.Context) error {
	not := func(format string, args ...any) error {
		return &TarError{Kind: ErrNotTar, Reason: fmt.Sprintf(format, args...)}
	}
	size := w.win.size
	if size <= 0 {
		return not("it is empty")
	}
	head, err := w.win.at(ctx, 0, min(size, tarWindowMin))
	if err != nil {
		return err
	}
	if IsTar(head) {
		return nil
	}
	if f := seekable.Detect(head); f != "" {
		return not("it is %s-compressed data; publish the tar itself, with the images in it compressed", f)
	}
	if what := Foreign(head); what != "" {
		return not("it is %s; what is read here is tar archives and disk images, also compressed with gzip, xz, zstd or bzip2", what)
	}
	if what := kindOf(likelyMagics, head); what != "" {
		return not("it is %s", what)
	}
	text := bytes.ToLower(bytes.TrimLeft(bytes.TrimPrefix(head, []byte("\xef\xbb\xbf")), " \t\r\n"))
	switch {
	case bytes.HasPrefix(text, []byte("<?xml")) && !bytes.Contains(text, []byte("<html")):
		return not("it is an XML document")
	case bytes.HasPrefix(text, []byte("<")):
		return not("it is a web page; the server answers with a login or an error page where the package should be")
	case bytes.HasPrefix(text, []byte("{")):
		return not("it is a JSON document")
	case len(bytes.Trim(head, "\x00")) == 0:
		return not("it begins with zeros: an archive without members, or a bare disk image")
	case size < tarBlockSize:
		return not("it has only %d bytes", size)
	}
	return not("its first 512 bytes are no tar header")
}
