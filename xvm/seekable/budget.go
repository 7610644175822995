package seekable

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Budget bounds the memory of the decoders of all Readers that share it (Options.Budget), however many files are
// open. A decoder for which nothing is left waits. While one waits, idle decoders are closed, and decoders with slow
// input have to yield.
//
// Whose turn it is: the origin (Options.Origin) that holds least, of those the one whose last turn is longest ago, and
// of its decoders the one that has waited longest. So the files of one server, however many, take turns with those of
// another.
//
// Which one yields: a decoder loses patience while it waits for input, and wins it back with what it gets: a second for each
// inputPace bytes. When it has lost all, it is closed, and begun anew at the nearest seek point once the input that it
// waited for is here. Decoders of an origin that holds more than its share have a fifth of the patience of others.
//
// Decoders whose sources are themselves what other decoders produce need a Budget of their own, or all of it could be
// held by decoders that wait for one which waits for it.
//
// What is counted is the window or dictionary and decoderBase for the rest. Decoders that wait hold about 0.3 MB.
type Budget struct {
	total    int64
	patience time.Duration

	mu      sync.Mutex // guards what follows; taken after Reader.mu, and nothing is taken while it is held
	free    int64
	origins map[string]*origin // those that hold memory or wait for it
	queue   []*claim           // oldest first
	turns   int64              // how many there have been
	readers map[*Reader]bool
}

// An origin is what the files of one server have of a Budget.
type origin struct {
	held int64
	uses int   // claims that wait, or have been granted and not given back
	turn int64 // its last
}

const (
	inputPatience  = 10 * time.Second
	inputPace      = 64 << 10 // stored bytes per second
	greedyPatience = 5        // the patience with an origin that holds more than its share is divided by this
)

// decoderBase is what a decoder takes beside its window.
const decoderBase = 1 << 20

// A claim is a decoder that waits for memory.
type claim struct {
	origin *origin
	n      int64
	got    chan struct{} // closed when the memory is the claim's
}

// NewBudget makes a Budget of so many bytes. A window that is larger than all of it is ErrLimit.
func NewBudget(bytes int64) *Budget {
	return &Budget{total: bytes, free: bytes, patience: inputPatience, origins: make(map[string]*origin), readers: make(map[*Reader]bool)}
}

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
func (b *Budget) short() bool {
	if b == nil {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue) > 0
}

// claim asks for n bytes, which are at most all.
func (b *Budget) claim(name string, n int64) *claim {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.origins[name]
	if o == nil {
		o = new(origin)
		b.origins[name] = o
	}
	o.uses++
	c := &claim{o, n, make(chan struct{})}
	b.queue = append(b.queue, c)
	b.grant()
	return c
}

// acquire waits for n bytes.
func (b *Budget) acquire(ctx context.Context, origin string, n int64) (*claim, error) {
	c := b.claim(origin, n)
	select {
	case <-c.got:
		return c, nil
	default:
	}
	// A decoder that is parked from now on sees that another waits; those parked before are closed here.
	for _, r := range b.all() {
		r.closeIdle()
	}
	tick := time.NewTicker(b.patience / 20)
	defer tick.Stop()
	for {
		select {
		case <-c.got:
			return c, nil
		case <-ctx.Done():
			b.release(origin, c)
			return nil, ctx.Err()
		case <-tick.C:
			b.press(c)
		}
	}
}

// first is the claim whose turn it is; nil: none waits. b.mu is held.
func (b *Budget) first() (first *claim) {
	for _, c := range b.queue {
		if first == nil || c.origin.held < first.origin.held || c.origin.held == first.origin.held && c.origin.turn < first.origin.turn {
			first = c
		}
	}
	return first
}

// grant gives out what is free; b.mu is held.
func (b *Budget) grant() {
	for c := b.first(); c != nil && c.n <= b.free; c = b.first() {
		b.queue = slices.DeleteFunc(b.queue, func(q *claim) bool { return q == c })
		b.turns++
		b.free, c.origin.held, c.origin.turn = b.free-c.n, c.origin.held+c.n, b.turns
		close(c.got)
	}
}

// release ends a claim, granted or not.
func (b *Budget) release(name string, c *claim) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-c.got:
		b.free, c.origin.held = b.free+c.n, c.origin.held-c.n
	default:
		b.queue = slices.DeleteFunc(b.queue, func(q *claim) bool { return q == c })
	}
	if c.origin.uses--; c.origin.uses == 0 {
		delete(b.origins, name)
	}
	b.grant()
}

func (b *Budget) all() []*Reader {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.readers))
}

// press makes the decoder yield that has lost most patience, if it has lost all. It does so for the claim whose turn
// it is.
func (b *Budget) press(c *claim) {
	b.mu.Lock()
	turn := b.first() == c
	share := b.total / int64(len(b.origins))
	greedy := map[string]bool{}
	for name, o := range b.origins {
		greedy[name] = o.held > share
	}
	b.mu.Unlock()
	if !turn {
		return
	}
	var slowest *runner
	var most time.Duration
	for _, r := range b.all() {
		w, lost := r.slowest()
		if greedy[r.o.Origin] {
			lost *= greedyPatience
		}
		if lost >= max(most, b.patience) {
			slowest, most = w, lost
		}
	}
	if slowest != nil {
		slowest.yield()
	}
}

// A share is what one decoder has of a Budget. It belongs to the decoder's goroutine.
type share struct {
	b      *Budget
	ctx    context.Context // of the decoder
	origin string
	claim  *claim      // nil: it has nothing
	held   atomic.Bool // claim != nil; others may look at it
}

// take gets room for a window of n bytes. What the decoder has is given back before it waits for more, for which it
// calls drop (nil: there is none yet) to let go of the memory: otherwise decoders that each have a part could wait for
// each other.
func (s *share) take(n int64, drop func()) (err error) {
	n += decoderBase
	if s.b == nil || s.claim != nil && n <= s.claim.n {
		return nil
	}
	if n > s.b.total {
		return limited("window", n-decoderBase)
	}
	if drop != nil {
		drop()
	}
	s.release()
	if s.claim, err = s.b.acquire(s.ctx, s.origin, n); err != nil {
		return ErrClosed
	}
	s.held.Store(true)
	return nil
}

func (s *share) release() {
	if s.claim != nil {
		s.held.Store(false)
		s.b.release(s.origin, s.claim)
		s.claim = nil
	}
}
