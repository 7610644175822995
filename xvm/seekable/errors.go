package seekable

import (
	"errors"
	"fmt"
	"io"
)

var (
	// ErrCorrupt: the compressed data contradicts its format or its own check.
	ErrCorrupt = errors.New("compressed data is corrupt")
	// ErrUnsupported: well formed as far as seen, but of a kind not decoded here (a filter, a dictionary).
	ErrUnsupported = errors.New("unsupported compression feature")
	// ErrLimit: decoding would exceed a limit of Options.
	ErrLimit = errors.New("compressed data exceeds a limit")
	// ErrPoints: the saved seek points are damaged, of another file, or do not agree with the data. Those points
	// have been dropped; asking again decodes from what is known to be true.
	ErrPoints = errors.New("seek points do not fit the file")
	// ErrClosed: the Reader or the stream has been closed.
	ErrClosed = errors.New("reader is closed")
)

// An Error says where decoding stopped. The bytes before Plain have been given out. Unwrap gives one of the sentinels
// above, io.ErrUnexpectedEOF for data that ends too early, or the source's own error.
type Error struct {
	Format Format
	Stored int64 // offset in the compressed file, bytes
	Plain  int64 // offset in the plain file, bytes
	Err    error
}

// AtFault tells that the file itself is wrong: it contradicts its format or its own checks, or ends too early. What
// was decoded of the part that failed (a gzip member, for one) is in doubt from its beginning. Not at fault is a file
// that could not be read, exceeds a limit, is of an unsupported kind, or was decoded from a false seek point.
func (e *Error) AtFault() bool {
	var unread *readError
	return (errors.Is(e.Err, ErrCorrupt) || errors.Is(e.Err, io.ErrUnexpectedEOF)) && !errors.As(e.Err, &unread)
}

// readError is an error of the source, whatever it looks like.
type readError struct{ error }

func (e *readError) Unwrap() error { return e.error }

func (e *Error) Error() string {
	return fmt.Sprintf("%s at stored offset %d, plain offset %d: %v", e.Format, e.Stored, e.Plain, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// corrupt makes an ErrCorrupt with a reason.
func corrupt(reason string) error { return fmt.Errorf("%w: %s", ErrCorrupt, reason) }

func unsupported(reason string) error { return fmt.Errorf("%w: %s", ErrUnsupported, reason) }

func limited(what string, n int64) error { return fmt.Errorf("%w: %s of %d", ErrLimit, what, n) }
