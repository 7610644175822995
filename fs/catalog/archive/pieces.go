package archive

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

const (
	// denseRun is the least that a walk asks for at once where members are small and
	// follow each other.
	denseRun = 64 << 10
	// piecesLinger is how long a file of pieces stays open that nobody reads, at least.
	piecesLinger = 5 * time.Second
)

// Pieces is the archive through a file of the cache, for small members that lie
// together: their bytes are fetched in pieces that many of them share. Nothing but
// sums tells that they are right.
func (a *Archive) Pieces() Content {
	if !a.id.Ranged || a.move == nil { // it is in a file already
		return a.Content()
	}
	return a.pieces
}

// PiecesKey is that of the file of Pieces, "" if there is none.
func (a *Archive) PiecesKey() store.Key {
	if a.pieces == nil {
		return ""
	}
	return a.pieces.key
}

func newPieces(a *Archive) *streamed {
	return &streamed{
		cache: a.env.Cache, key: a.key("pieces"), label: a.place.Name + " (small files)", transport: a.Transport(),
		size: a.id.Size, open: func() (source.Source, func(), error) { return a.Proven(), func() {}, nil }, linger: a.env.Linger, run: a.env.Go,
	}
}

// Linger keeps the file of pieces open that was read last, for a while. There is one of
// a mount: what is open is not evicted.
//
// mu guards what follows it; it is a leaf.
type Linger struct {
	mu   sync.Mutex
	last *streamed // it is acquired once for this
	used time.Time
}

// keep has s stay open, in the place of another.
func (l *Linger) keep(s *streamed) {
	s.hold()
	l.mu.Lock()
	was := l.last
	l.last, l.used = s, time.Now()
	l.mu.Unlock()
	if was != nil {
		was.Release()
	}
	if was != s && !s.run(func(ctx context.Context) { l.wait(ctx, s) }) {
		l.end(s, 0)
	}
}

// wait ends that s stays open, once it has not been used for a while.
func (l *Linger) wait(ctx context.Context, s *streamed) {
	tick := time.NewTicker(piecesLinger)
	defer tick.Stop()
	for idle := piecesLinger; !l.end(s, idle); {
		select {
		case <-ctx.Done():
			idle = 0
		case <-tick.C:
		}
	}
}

// end gives s up if it is idle for so long; true: it does not stay any more.
func (l *Linger) end(s *streamed, idle time.Duration) bool {
	l.mu.Lock()
	over := l.last != s
	give := !over && time.Since(l.used) >= idle
	if give {
		l.last = nil
	}
	l.mu.Unlock()
	if give {
		s.Release()
	}
	return over || give
}

// dense reads an archive for its index. Runs of small members come by pieces, which
// those who read the members find in the cache.
type dense struct {
	Content
	pieces Content
	upTo   atomic.Int64 // where the runs end
}

// Dense is the archive for the walk. The caller calls done after it.
func (a *Archive) Dense() (c Content, done func()) {
	pieces := a.Pieces()
	if !a.id.Pinned() || pieces == Content(a) || !a.id.Ranged || pieces.Acquire() != nil {
		return a, func() {}
	}
	return &dense{Content: a, pieces: pieces}, pieces.Release
}

func (d *dense) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if run := d.upTo.Load(); end <= run || len(p) >= denseRun {
		if n, err := d.pieces.ReadAt(cache.Narrowly(ctx), p, off); n == len(p) {
			d.upTo.Store(max(run, end))
			return n, err
		}
	}
	return d.Content.ReadAt(ctx, p, off)
}
