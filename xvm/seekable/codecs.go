package seekable

import (
	"context"
	"strings"
)

// A Format names a compression format.
type Format string

// A codec is what a format is called, begins with, and is decoded by.
type codec struct {
	format    Format
	suffix    string // in lower case
	mediaType string
	begins    func(head []byte) bool                   // recognizes the first bytes of a file
	refuse    func(head []byte, maxWindow int64) error // see Refuse; nil: there is nothing to refuse
	open      func(env, point) (decoder, error)        // decodes from a point on
	table     func(*Reader, context.Context) error     // shows the index what the file says of itself; nil: nothing
}

// codecs is the one table of them. Everything that strips a suffix, recognizes a compressed file or opens one asks it.
var codecs = []codec{
	{Gzip, ".gz", "application/gzip", beginsGzip, nil, openGzip, nil},
	{XZ, ".xz", "application/x-xz", beginsXZ, refuseXZ, openXZ, (*Reader).xzTable},
	{Zstd, ".zst", "application/zstd", beginsZstd, refuseZstd, openZstd, (*Reader).zstdTable},
	{Bzip2, ".bz2", "application/x-bzip2", beginsBzip2, nil, openBzip2, nil},
}

// find gives the codec of a format; that of an unknown one has nothing in it.
func (f Format) find() codec {
	for _, c := range codecs {
		if c.format == f {
			return c
		}
	}
	return codec{}
}

// Detect names the format by the first bytes of a file, or "" for none of ours. Ten bytes are enough, but for a file
// that begins with skippable frames, which zstd and lz4 share: what follows them decides, and if head ends within them
// it is Zstd, whose decoder then finds out.
func Detect(head []byte) Format {
	for _, c := range codecs {
		if c.begins(head) {
			return c.format
		}
	}
	return ""
}

// PlainName splits the suffix of a compressed file off its name: "disk.img.gz" gives Gzip and "disk.img". Without a
// known suffix, or with nothing before it, the format is "" and plain the name itself. The name is only a claim:
// whoever shows content under the plain name must have decoded it.
func PlainName(name string) (f Format, plain string) {
	for _, c := range codecs {
		if n := len(name) - len(c.suffix); n > 0 && strings.EqualFold(name[n:], c.suffix) {
			return c.format, name[:n]
		}
	}
	return "", name
}

// Suffix is what the names of files in this format end in, with the dot; "" for a format that is none of ours.
func (f Format) Suffix() string { return f.find().suffix }

// MediaType is the MIME type of files in this format; "" for a format that is none of ours.
func (f Format) MediaType() string { return f.find().mediaType }

// HeadMax is how many of a file's first bytes Refuse looks at.
const HeadMax = 2 << 10

// MayRefuse tells formats of which there are kinds that are not decoded here.
func (f Format) MayRefuse() bool { return f.find().refuse != nil }

// Refuse tells by a file's first bytes why it cannot be decoded here, however sound it is: ErrUnsupported, or ErrLimit
// by the default limits of Options. nil means that nothing in them speaks against it.
func (f Format) Refuse(head []byte) error {
	var o Options
	o.fill()
	if refuse := f.find().refuse; refuse != nil {
		return refuse(head, o.MaxWindow)
	}
	return nil
}
