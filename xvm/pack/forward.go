package pack

import (
	"context"
	"io"
	"sort"
	"sync"
)

// forward lets a decoder read a member of the archive while that goes by: what
// it reads in order comes off the stream, and on the way to the digests; what
// lies elsewhere, as the tables at the end of some formats, comes from the
// archive by a read of its own.
//
// mu guards tee, in, last and err. It is held while the stream is read.
type forward struct {
	archive Archive

	mu   sync.Mutex
	tee  io.Reader // the member, to its digests too
	in   *content
	last []byte // the latest bytes of the stream, which end at in.pos
	err  error  // of reading
}

const forwardKeeps = 1 << 20 // bytes of last, at most twice that

func (f *forward) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *forward) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		begin := f.in.pos - int64(len(f.last))
		var k int
		var err error
		switch {
		case at >= f.in.m.Size:
			return n, io.EOF
		case at >= begin && at < f.in.pos:
			k = copy(p[n:], f.last[at-begin:])
		case at == f.in.pos:
			k, err = f.tee.Read(p[n:])
			f.keep(p[n : n+k])
		default:
			k, err = f.elsewhere(ctx, p[n:], at)
		}
		n += k
		if err != nil {
			if ctx.Err() == nil {
				f.err = err
			}
			return n, err
		}
	}
	return n, nil
}

func (f *forward) keep(p []byte) {
	if len(f.last)+len(p) > 2*forwardKeeps {
		f.last = append(f.last[:0], f.last[max(0, len(f.last)-forwardKeeps):]...)
	}
	f.last = append(f.last, p...)
}

// elsewhere reads from the archive itself.
func (f *forward) elsewhere(ctx context.Context, p []byte, off int64) (int, error) {
	m := f.in.m
	p = p[:min(int64(len(p)), m.Size-off)]
	at := m.Offset + off
	if m.Segments != nil {
		i := sort.Search(len(m.Segments), func(i int) bool { return m.Segments[i].Logical+m.Segments[i].Len > off })
		switch {
		case i == len(m.Segments):
			clear(p)
			return len(p), nil
		case m.Segments[i].Logical > off:
			p = p[:min(int64(len(p)), m.Segments[i].Logical-off)]
			clear(p)
			return len(p), nil
		}
		seg := m.Segments[i]
		p = p[:min(int64(len(p)), seg.Logical+seg.Len-off)]
		at = seg.Archive + off - seg.Logical
	}
	n, err := f.archive.ReadAt(ctx, p, at)
	if n == len(p) {
		err = nil
	} else if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
