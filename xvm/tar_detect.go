package xvm

import (
	"bytes"
	"context"
	"fmt"

	"vmcastfs/xvm/seekable"
)

// tarMagics are the beginnings of what people put where an archive should be.
var tarMagics = []struct {
	off   int
	magic string
	what  string
}{
	{0, "PK\x03\x04", "a zip archive"},
	{0, "PK\x05\x06", "an empty zip archive"},
	{0, "7z\xbc\xaf\x27\x1c", "a 7z archive"},
	{0, "QFI\xfb", "a bare qcow2 disk image"},
	{0, "KDMV", "a bare VMDK disk image"},
	{0, "# Disk DescriptorFile", "a VMDK descriptor"},
	{0, "vhdxfile", "a bare VHDX disk image"},
	{0, "conectix", "a bare VHD disk image"},
	{64, "\x7f\x10\xda\xbe", "a bare VDI disk image"},
	{510, "\x55\xaa", "a bare disk image with a boot sector"},
	{1080, "\x53\xef", "a bare ext file system"},
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
	if size >= tarBlockSize && tarBlock(head[:tarBlockSize]).sumOK() && !tarBlock(head[:tarBlockSize]).zero() {
		return nil
	}
	if f := seekable.Detect(head); f != "" {
		return not("it is %s-compressed data; publish the tar itself, with the images in it compressed", f)
	}
	for _, m := range tarMagics {
		if len(head) >= m.off && bytes.HasPrefix(head[m.off:], []byte(m.magic)) {
			return not("it is %s", m.what)
		}
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
