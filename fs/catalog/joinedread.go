package catalog

import (
	"context"
	"errors"
	"io"
	"os"
	"slices"
)

// open opens all parts.
func (j *joined) open(ctx context.Context) (Handle, error) {
	if _, err := j.findSize(ctx); err != nil {
		return nil, err
	}
	l := j.done.Load()
	h := &joinedHandle{size: l.size}
	for _, t := range l.tables {
		h.pieces = append(h.pieces, piece{t.off, int64(len(t.data)), memHandle(t.data)})
	}
	for i, f := range l.files {
		part, err := f.Open(ctx)
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.pieces = append(h.pieces, piece{l.parts[i].Off, l.parts[i].Size, part})
	}
	slices.SortFunc(h.pieces, func(a, b piece) int { return int(min(1, max(-1, a.off-b.off))) })
	return h, nil
}

// joinedHandle is the open disk. What is between the pieces is zeros.
type joinedHandle struct {
	size   int64
	pieces []piece // ascending
}

type piece struct {
	off, len int64
	Handle
}

// from is the first piece that ends above off.
func (h *joinedHandle) from(off int64) []piece {
	for i, p := range h.pieces {
		if off < p.off+p.len {
			return h.pieces[i:]
		}
	}
	return nil
}

func (h *joinedHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	var atEnd error
	if off >= h.size {
		return 0, io.EOF
	}
	if rest := h.size - off; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	n := 0
	for _, piece := range h.from(off) {
		at := off + int64(n)
		if gap := min(piece.off-at, int64(len(p)-n)); gap > 0 {
			clear(p[n : n+int(gap)])
			n, at = n+int(gap), at+gap
		}
		if n == len(p) {
			break
		}
		want := min(int64(len(p)-n), piece.off+piece.len-at)
		m, err := piece.ReadAt(ctx, p[n:n+int(want)], at-piece.off)
		n += m
		switch {
		case int64(m) == want:
		case err == nil || errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		default:
			return n, err
		}
	}
	clear(p[n:])
	return len(p), atEnd
}

func (h *joinedHandle) SeekData(off int64) (int64, error) {
	for _, p := range h.from(off) {
		off = max(off, p.off)
		at, err := p.SeekData(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
	}
	return h.size, nil
}

func (h *joinedHandle) SeekHole(off int64) (int64, error) {
	for _, p := range h.from(off) {
		if off < p.off {
			return off, nil
		}
		at, err := p.SeekHole(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
		off = p.off + p.len
	}
	return min(off, h.size), nil
}

func (h *joinedHandle) PassthroughFile() (*os.File, bool) { return nil, false }

// Complete fetches and checks all partitions.
func (h *joinedHandle) Complete(ctx context.Context) error {
	for _, p := range h.pieces {
		if c, ok := p.Handle.(interface{ Complete(context.Context) error }); ok {
			if err := c.Complete(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *joinedHandle) Close() error {
	var err error
	for _, p := range h.pieces {
		err = errors.Join(err, p.Close())
	}
	return err
}
