package seekable

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"time"
)

// A ReaderAt is the compressed file. ReadAt follows io.ReaderAt and must return soon after ctx ends.
type ReaderAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// A Format names a compression format.
type Format string

// The formats.
const (
	Gzip  Format = "gzip"
	XZ    Format = "xz"
	Zstd  Format = "zstd"
	Bzip2 Format = "bzip2"
)

// Detect names the format by the first bytes of a file (six are enough), or "" for none of ours.
func Detect(head []byte) Format {
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b, 8}):
		return Gzip
	case bytes.HasPrefix(head, []byte("\xfd7zXZ\x00")):
		return XZ
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return Zstd
	case len(head) >= 4 && head[0] == 'B' && head[1] == 'Z' && head[2] == 'h' && head[3] >= '1' && head[3] <= '9':
		return Bzip2
	}
	return ""
}

// PlainName splits the suffix of a compressed file off its name: "disk.img.gz" gives Gzip and "disk.img".
// Without a known suffix, or with nothing before it, the format is "".
func PlainName(name string) (Format, string) {
	for _, s := range []struct {
		suffix string
		format Format
	}{{".gz", Gzip}, {".xz", XZ}, {".zst", Zstd}, {".bz2", Bzip2}} {
		if n := len(name) - len(s.suffix); n > 0 && strings.EqualFold(name[n:], s.suffix) {
			return s.format, name[:n]
		}
	}
	return "", name
}

// Options are the limits of a Reader; every zero value means its default.
type Options struct {
	Every      int64         // distance of seek points in plain bytes; default 1 MiB, at least 64 KiB
	PointBytes int           // memory that seek points may take; default 16 MiB. When it is full, every second one goes
	MaxSize    int64         // greatest plain size; default 16 TiB
	MaxRatio   int64         // greatest plain:stored ratio of a file beyond 1 GiB plain; default 65536
	MaxWindow  int64         // greatest dictionary or window of xz and zstd; default 128 MiB
	Parked     int           // idle decoders kept for reuse; default 2
	Idle       time.Duration // an idle decoder is closed after this; default 30 s
	Logger     *slog.Logger
}

// A Reader gives random access to the plain content of one compressed file. All methods may be called concurrently.
type Reader struct{}

// Open makes a Reader of the stored bytes of src. It reads nothing yet.
func Open(f Format, src ReaderAt, stored int64, o Options) (*Reader, error) {
	return nil, errors.ErrUnsupported
}

// Size tells the plain size if the format proves it without reading the whole.
func (r *Reader) Size(ctx context.Context) (n int64, known bool, err error) {
	return 0, false, errors.ErrUnsupported
}

// Start is the greatest offset ≤ off at which Stream can begin without decoding what lies before it.
func (r *Reader) Start(off int64) int64 { return 0 }

// Stream decodes from plain offset off to the end.
func (r *Reader) Stream(ctx context.Context, off int64) (io.ReadCloser, error) {
	return nil, errors.ErrUnsupported
}

// Points are the seek points found so far, to be kept and given to Restore later; changed since the last call.
func (r *Reader) Points() (data []byte, changed bool) { return nil, false }

// Restore takes what Points gave, for the same file.
func (r *Reader) Restore(data []byte) error { return errors.ErrUnsupported }

// Close ends every stream and decoder.
func (r *Reader) Close() error { return nil }
