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
		size: a.id.Size, open: func() (source.Source, func(), error) { return a.Proven(), func() {}, nil }, linger: a.env.Linger,
	}
}

// Linger keeps the file of pieces open that was read last, for a while. There is one of
// a mount: what is open is not evicted.
type Linger struct {
	run func(func(context.Context)) bool // Env.Go

	// mu guards what follows it; it is a leaf.
	mu    sync.Mutex
	last  *streamed // it is acquired once for this; nil: nothing stays open
	used  time.Time
	waits bool // a goroutine is going to give it up
}

// NewLinger makes a Linger that waits in the background, by run.
func NewLinger(run func(func(context.Context)) bool) *Linger { return &Linger{run: run} }

// keep has s stay open, in the place of another. It is open now.
func (l *Linger) keep(s *streamed) {
	if s.acquire() != nil {
		return
	}
	l.mu.Lock()
	was, first := l.last, !l.waits
	l.last, l.used, l.waits = s, time.Now(), true
	l.mu.Unlock()
	if was != nil {
		was.Release()
	}
	if first && !l.run(l.wait) {
		l.end(0)
	}
}

// wait gives up what stays open, once it has not been used for a while.
func (l *Linger) wait(ctx context.Context) {
	tick := time.NewTicker(piecesLinger)
	defer tick.Stop()
	for idle := piecesLinger; !l.end(idle); {
		select {
		case <-ctx.Done():
			idle = 0
		case <-tick.C:
		}
	}
}

// end gives up what stays open, if it has been idle for so long; false: it has not. It is
// called by whoever waits.
func (l *Linger) end(idle time.Duration) bool {
	l.mu.Lock()
	if time.Since(l.used) < idle {
		l.mu.Unlock()
		return false
	}
	last := l.last
	l.last, l.waits = nil, false
	l.mu.Unlock()
	last.Release()
	return true
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
