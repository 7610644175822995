package seekable

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// A Format names a compression format.
type Format string

// The formats.
const (
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
	Bzip2 Format = "bzip2"
)

// formats is the one table of what compressed files are called and begin with.
// Everything that strips a suffix or recognizes a compressed file asks it.
var formats = []struct {
	format    Format
	suffix    string // in lower case
	mediaType string
	begins    func(head []byte) bool
}{
	{Gzip, ".gz", "application/gzip", func(h []byte) bool { return bytes.HasPrefix(h, []byte{0x1f, 0x8b, 8}) }},
	{XZ, ".xz", "application/x-xz", func(h []byte) bool { return bytes.HasPrefix(h, []byte("\xfd7zXZ\x00")) }},
	{Zstd, ".zst", "application/zstd", beginsZstd},
	{Bzip2, ".bz2", "application/x-bzip2", beginsBzip2},
}

// Detect names the format by the first bytes of a file, or "" for none of ours. Ten bytes are enough, but for a file
// that begins with skippable frames, which zstd and lz4 share: what follows them decides, and if head ends within them
// it is Zstd, whose decoder then finds out.
func Detect(head []byte) Format {
	for _, f := range formats {
		if f.begins(head) {
			return f.format
		}
	}
	return ""
}

func beginsZstd(head []byte) bool {
	for skipped := false; ; skipped = true {
		if len(head) < 4 {
			return skipped
		}
		magic := binary.LittleEndian.Uint32(head)
		if magic&^15 != zstdSkip {
			return magic == zstdMagic
		}
		if len(head) < 8 {
			return skipped
		}
		next := 8 + int64(binary.LittleEndian.Uint32(head[4:]))
		if next >= int64(len(head)) {
			return true
		}
		head = head[next:]
	}
}

// beginsBzip2 wants the magic of a block, or of the end of an empty file, behind the header: that alone is four letters.
func beginsBzip2(head []byte) bool {
	return len(head) >= 10 && string(head[:3]) == "BZh" && head[3] >= '1' && head[3] <= '9' &&
		(string(head[4:10]) == "\x31\x41\x59\x26\x53\x59" || string(head[4:10]) == "\x17\x72\x45\x38\x50\x90")
}

// PlainName splits the suffix of a compressed file off its name: "disk.img.gz" gives Gzip and "disk.img". Without a
// known suffix, or with nothing before it, the format is "" and plain the name itself. The name is only a claim:
// whoever shows content under the plain name must have decoded it.
func PlainName(name string) (f Format, plain string) {
	for _, row := range formats {
		if n := len(name) - len(row.suffix); n > 0 && strings.EqualFold(name[n:], row.suffix) {
			return row.format, name[:n]
		}
	}
	return "", name
}

// Suffix is what the names of files in this format end in, with the dot; "" for a format that is none of ours.
func (f Format) Suffix() string {
	for _, row := range formats {
		if row.format == f {
			return row.suffix
		}
	}
	return ""
}

// MediaType is the MIME type of files in this format; "" for a format that is none of ours.
func (f Format) MediaType() string {
	for _, row := range formats {
		if row.format == f {
			return row.mediaType
		}
	}
	return ""
}
