package seekable

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// A Budget bounds the memory of the decoders of all Readers that share it (Options.Budget), however many files are
// open. A decoder for which nothing is left waits, first come first served, until another has come to its end or has
// been parked: while one waits, idle decoders are closed instead of being kept, and one that has been waiting for its
// own input for long (a server that does not answer) has to yield: it is closed, and begun anew at the nearest seek
// point once that input is here.
//
// Decoders whose sources are themselves what other decoders produce need a Budget of their own, or all of it could be
// held by decoders that wait for one which waits for it.
//
// What is counted is the window or dictionary and decoderBase for the rest. Decoders that wait hold about 0.3 MB.
type Budget struct {
	total    int64
	free     *semaphore.Weighted
	waiting  atomic.Int32
	patience time.Duration // how long a decoder may wait for input while another waits for memory

	mu      sync.Mutex // guards readers; taken after Reader.mu, and nothing is taken while it is held
	readers map[*Reader]bool
}

// NewBudget makes a Budget of so many bytes. A window that is larger than all of it is ErrLimit.
func NewBudget(bytes int64) *Budget {
	return &Budget{total: bytes, free: semaphore.NewWeighted(bytes), patience: inputPatience, readers: make(map[*Reader]bool)}
}

const inputPatience = 30 * time.Second

// What a decoder takes beside its window.
const decoderBase = 1 << 20

// enter and leave are nothing without a Budget.
func (b *Budget) enter(r *Reader) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.readers[r] = true
	}
}

func (b *Budget) leave(r *Reader) {
	if b != nil {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.readers, r)
	}
}

// short reports whether a decoder waits.
func (b *Budget) short() bool { return b != nil && b.waiting.Load() > 0 }

func (b *Budget) acquire(ctx context.Context, n int64) error {
	if b.free.TryAcquire(n) {
		return nil
	}
	// Who parks from now on sees that somebody waits; who has parked before is among the readers' idle ones.
	b.waiting.Add(1)
	defer b.waiting.Add(-1)
	for _, r := range b.all() {
		r.closeIdle()
	}
	got := make(chan struct{})
	defer close(got)
	go b.press(got)
	return b.free.Acquire(ctx, n)
}

func (b *Budget) all() (readers []*Reader) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.readers {
		readers = append(readers, r)
	}
	return readers
}

// press makes decoders that have no input yield, until got is closed.
func (b *Budget) press(got <-chan struct{}) {
	tick := time.NewTicker(b.patience / 4)
	defer tick.Stop()
	for {
		select {
		case <-got:
			return
		case <-tick.C:
			for _, r := range b.all() {
				r.yieldStalled(b.patience)
			}
		}
	}
}

// A share is what one decoder has of a Budget. It belongs to the decoder's goroutine.
type share struct {
	b    *Budget
	ctx  context.Context // of the decoder
	held int64
}

// take gets room for a window of n bytes. What the decoder has is given back before it waits for more, for which it
// calls drop (nil: there is none yet) to let go of the memory: otherwise decoders that each have a part could wait for each other.
func (s *share) take(n int64, drop func()) error {
	n += decoderBase
	if s.b == nil || n <= s.held {
		return nil
	}
	if n > s.b.total {
		return limited("window", n-decoderBase)
	}
	if drop != nil {
		drop()
	}
	s.release()
	if err := s.b.acquire(s.ctx, n); err != nil {
		return ErrClosed
	}
	s.held = n
	return nil
}

func (s *share) release() {
	if s.held > 0 {
		s.b.free.Release(s.held)
		s.held = 0
	}
}
