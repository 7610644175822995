package pack

import (
	"context"
	"io"
	"sync"

	"vmcastfs/xvm"
)

// Forward lets a decoder read a file while that goes by. What it reads in order
// comes off the stream. What lies elsewhere, as the tables at the end of some
// formats, comes from the file itself.
type Forward struct {
	Stream io.Reader    // the file from its beginning
	Rest   xvm.ReaderAt // the file, at any place
	Size   int64        // bytes of the file

	mu   sync.Mutex // guards what follows; it is held while the stream is read
	pos  int64      // of the stream
	last []byte     // the latest bytes of the stream, which end at pos
	err  error      // of reading
}

const forwardKeeps = 1 << 20 // bytes of last, at most twice that

// Failed is the error of reading that ended it, if any.
func (f *Forward) Failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// ReadAt is for the decoder.
func (f *Forward) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	n := 0
	for n < len(p) {
		at := off + int64(n)
		begin := f.pos - int64(len(f.last))
		var k int
		err := ctx.Err()
		switch {
		case err != nil:
		case at >= f.Size:
			return n, io.EOF
		case at >= begin && at < f.pos:
			k = copy(p[n:], f.last[at-begin:])
		case at == f.pos:
			k, err = f.Stream.Read(p[n:])
			f.pos += int64(k)
			f.keep(p[n : n+k])
			if err == io.EOF && f.pos < f.Size {
				err = io.ErrUnexpectedEOF
			} else if err == io.EOF {
				err = nil
			}
		default:
			k, err = f.Rest.ReadAt(ctx, p[n:n+int(min(int64(len(p)-n), f.Size-at))], at)
			if k > 0 {
				err = nil
			} else if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
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

// keep remembers what was read; mu is held.
func (f *Forward) keep(p []byte) {
	if len(f.last)+len(p) > 2*forwardKeeps {
		f.last = append(f.last[:0], f.last[max(0, len(f.last)-forwardKeeps):]...)
	}
	f.last = append(f.last, p...)
}

// memberAt reads a member at any place, one run of it at a time.
type memberAt struct {
	archive xvm.ReaderAt
	m       *xvm.Member
}

func (a memberAt) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	at, n := a.m.At(off)
	p = p[:min(int64(len(p)), n)]
	if at < 0 {
		clear(p)
		return len(p), nil
	}
	return a.archive.ReadAt(ctx, p, at)
}
