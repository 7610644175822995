package xvm

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Sizes of what tarWindow asks for, in bytes.
const (
	tarWindowMin = 4 << 10   // after a jump: an extended header, its body and the header that it belongs to
	tarWindowMax = 512 << 10 // in a run of small members: about what a link carries in one round trip
	tarNear      = 64 << 10  // a jump of at most this costs less to read than to ask for
	tarStride    = 16 << 10  // ... and of at most this, if it is one of many equal ones, which a reader foresees
)

// tarWindow is the part of an archive that is in memory. What is asked for next is expected close by, as long as it
// has been so, and the window then doubles from request to request; a far jump makes it small again, and so do two
// equal ones.
type tarWindow struct {
	r        ReaderAt
	size     int64 // of the archive
	off      int64 // of buf in the archive
	buf      []byte
	ask      int64 // size of the last request, 0 before the first
	requests int   // left

	jumped int64 // where the last jump led
	stride int64 // how far that was
}

// at returns the n bytes at off, which must be within the archive. They are valid until the next call.
func (w *tarWindow) at(ctx context.Context, off, n int64) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	steady := w.steady(off)
	end := w.off + int64(len(w.buf))
	if off >= w.off && off+n <= end {
		return w.buf[off-w.off:][:n], nil
	}
	switch {
	case w.ask == 0 || off < w.off || off-end > tarNear || steady && off > end:
		w.ask = tarWindowMin
	default:
		w.ask = min(2*w.ask, tarWindowMax)
	}
	var kept int
	if off >= w.off && off < end {
		kept = copy(w.buf, w.buf[off-w.off:])
	}
	from := off + int64(kept)
	total := int64(kept) + min(max(w.ask, n-int64(kept)), w.size-from)
	if int64(cap(w.buf)) < total {
		w.buf = append(make([]byte, 0, total), w.buf[:kept]...)
	}
	w.off, w.buf = off, w.buf[:kept]
	if w.requests == 0 {
		return nil, &TarError{Kind: ErrTarLimit, Offset: off, Reason: "its headers take too many requests to read"}
	}
	w.requests--
	got, err := w.r.ReadAt(ctx, w.buf[kept:total], from)
	if int64(kept+got) < total {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, &tarReadError{off: from, n: total - int64(kept), err: err}
	}
	w.buf = w.buf[:total]
	return w.buf[:n], nil
}

// steady reports whether off is as far from where the walk was before as that was from the place before it: so lie the
// members of an archive that are all of one size.
func (w *tarWindow) steady(off int64) bool {
	step := off - w.jumped
	if step >= 0 && step <= tarWindowMin {
		return false // an extended header, or what it belongs to
	}
	again := step == w.stride && step > tarStride
	w.jumped, w.stride = off, step
	return again
}

// tarReadError says that the archive could not be read, which is nothing against the archive.
type tarReadError struct {
	off, n int64
	err    error
}

func (e *tarReadError) Error() string {
	return fmt.Sprintf("read %d bytes of archive at offset %d: %v", e.n, e.off, e.err)
}

func (e *tarReadError) Unwrap() error { return e.err }
