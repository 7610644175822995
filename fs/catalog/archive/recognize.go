package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// Enclosure is what an enclosure was recognized as. Neither field set: an
// archive, or nothing that is known.
type Enclosure struct {
	Inflate seekable.Format // an archive compressed as a whole
	Bare    string          // a disk image, compressed or not: what the one file of its release is called
}

// Recognize tells by its content what an enclosure is. What is compressed and
// neither an archive nor a disk image is an [xvm.ErrNotPackage]. The address only
// names a disk image, and tells a raw one that begins like nothing known. What
// looks into compressed data takes its memory from the budget; nil: at most some
// 130 MiB of its own.
//
// What its first bytes do not tell is looked at from its end: a DMG, and a fixed VHD,
// may begin with anything.
func Recognize(ctx context.Context, a xvm.ReaderAt, size int64, address string, memory *seekable.Budget) (Enclosure, error) {
	if first, err := readHead(ctx, a, min(size, tarHead)); err != nil || xvm.IsTar(first) {
		return Enclosure{}, err
	}
	head, err := readHead(ctx, a, size)
	if err != nil {
		return Enclosure{}, err
	}
	enc, refused := recognizeHead(ctx, head, a, size, address, memory)
	if enc != (Enclosure{}) || size < xvm.SniffTail {
		return enc, refused
	}
	tail := make([]byte, xvm.SniffTail)
	if n, err := a.ReadAt(ctx, tail, size-xvm.SniffTail); err != nil && (n < len(tail) || !errors.Is(err, io.EOF)) {
		return Enclosure{}, err
	}
	if disk := xvm.Sniff(head, tail); disk.Format == "dmg" || disk.Format == "vhd" {
		return Enclosure{Bare: bareName(addressName(address), "")}, nil
	}
	return enc, refused
}

// recognizeHead is Recognize by the first bytes.
func recognizeHead(ctx context.Context, head []byte, a xvm.ReaderAt, size int64, address string, memory *seekable.Budget) (Enclosure, error) {
	format := seekable.Detect(head)
	name := addressName(address)
	claimed, plainName := seekable.PlainName(name)
	switch {
	case format != "":
		inner, err := inflatedHead(ctx, format, a, size, memory)
		switch {
		case err != nil:
			return Enclosure{}, fmt.Errorf("%w: it is %s-compressed and cannot be inflated: %w", xvm.ErrNotPackage, format, err)
		case xvm.IsTar(inner):
			return Enclosure{Inflate: format}, nil
		case isDisk(inner, plainName):
			return Enclosure{Bare: bareName(name, format)}, nil
		}
		return Enclosure{}, fmt.Errorf("%w: it is %s-compressed data that is neither an archive nor a disk image", xvm.ErrNotPackage, format)
	case isDisk(head, name):
		return Enclosure{Bare: bareName(name, "")}, nil
	case claimed != "" && len(head) > 0 && !isText(head):
		return Enclosure{}, fmt.Errorf("%w: it is called a %s file and does not begin like one", xvm.ErrNotPackage, claimed)
	}
	return Enclosure{}, nil
}

// tarHead is what a tar is told by. Most enclosures are one.
const tarHead = 512

// readHead reads what an enclosure is recognized by.
func readHead(ctx context.Context, a xvm.ReaderAt, size int64) ([]byte, error) {
	head := make([]byte, min(max(size, 0), xvm.SniffHead))
	n, err := a.ReadAt(ctx, head, 0)
	if n == len(head) || errors.Is(err, io.EOF) {
		err = nil
	}
	return head[:n], err
}

// inflatedHead is readHead of the plain content.
func inflatedHead(ctx context.Context, format seekable.Format, a xvm.ReaderAt, size int64, memory *seekable.Budget) ([]byte, error) {
	reader, err := seekable.Open(format, a, size, seekable.Options{MaxSize: MaxInflated, Budget: memory})
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	stream, err := reader.Stream(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	head := make([]byte, xvm.SniffHead)
	n, err := io.ReadFull(stream, head)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:n], err
}

// addressName is the file name that an address ends in; "": none.
func addressName(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return path.Base(u.Path)
}

// isDisk tells whether content that is no archive is a disk image. A raw image
// that begins like nothing known is taken for one if its name says so: nothing
// else could tell, unless it begins like a file that is no image. A name with the suffix of a compression never does: content
// of that name which is not compressed is damaged, or something else.
func isDisk(head []byte, name string) bool {
	disk := xvm.Sniff(head, nil)
	switch {
	case len(head) == 0:
		return false
	case seekable.Detect(head) != "":
		return false // compressed twice
	case disk.Format != "raw":
		return true
	case disk.Kind != "" && disk.Kind != "zero":
		return true
	case xvm.Foreign(head) != "":
		return false
	}
	return HasDiskSuffix(name) && !isText(head)
}

// HasDiskSuffix tells by its name whether a file is likely a disk image that is not
// compressed.
func HasDiskSuffix(name string) bool {
	return slices.Contains(imageSuffixes, strings.ToLower(path.Ext(name)))
}

// imageSuffixes are those of disk images.
var imageSuffixes = []string{".img", ".raw", ".qcow2", ".vmdk", ".vhd", ".vhdx", ".vdi", ".hdd", ".hds", ".iso", ".ami"}

// isText tells an error page that comes in the place of an image.
func isText(head []byte) bool {
	head = head[:min(len(head), 512)]
	return !strings.ContainsFunc(string(head[:max(0, len(head)-utf8.UTFMax)]), func(r rune) bool {
		return r == utf8.RuneError || unicode.IsControl(r) && !unicode.IsSpace(r)
	})
}

// bareName names the one file of a release whose enclosure is a disk image. It is
// called as the enclosure is, with the suffix of the compression that it has. An
// image that is not compressed keeps a suffix which says otherwise, with another
// one behind: only content that was decoded has its suffix stripped.
func bareName(name string, format seekable.Format) string {
	name, ok := xvm.MemberName(name)
	had, plain := seekable.PlainName(name)
	if !ok || (xvm.Member{Name: plain}).IsMeta() {
		had, plain, name = "", "disk.img", "disk.img"
	}
	switch {
	case had == format:
		return name
	case format == "":
		return name + ".img"
	}
	return plain + format.Suffix()
}
