package seekable

import (
	"context"
	"errors"
	"io"
	"sync"
)

// tableOnce reads a file's own table once. A failure to read the file is not kept: the next caller tries again.
type tableOnce struct {
	mu      sync.Mutex // held while the table is read; taken before the index's mutex
	done    bool
	refused error // why the file cannot be decoded at all
}

// A refusal is an error of a table that tells, before anything is decoded, that the file is of an unsupported kind or
// exceeds a limit.
type refusal struct {
	stored int64
	error
}

// errNoTable: the file has none. It is decoded forward.
var errNoTable = errors.New("no table")

// loadTable shows the index what the file's own table says, if its format has one. A table that is missing or makes no
// sense is no error: the file may still be decoded forward, and what is wrong with it shows then.
func (r *Reader) loadTable(ctx context.Context) error {
	r.table.mu.Lock()
	defer r.table.mu.Unlock()
	if r.table.done {
		return r.table.refused
	}
	var err error
	if r.codec.table != nil {
		err = r.codec.table(r, ctx)
	}
	var no *refusal
	switch {
	case err == nil:
	case errors.As(err, &no):
		r.table.refused = &Error{Format: r.codec.format, Stored: no.stored, Err: no.error}
	case err == errNoTable || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrLimit) || err == io.ErrUnexpectedEOF:
		r.o.Logger.Debug("compressed file without a usable table", "format", r.codec.format, "err", err)
	default:
		return err
	}
	r.table.done = true
	return r.table.refused
}

// readAt reads exactly len(p) bytes of the file.
func (r *Reader) readAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off+int64(len(p)) > r.stored {
		return io.ErrUnexpectedEOF
	}
	n, err := r.src.ReadAt(ctx, p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}
