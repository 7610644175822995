package remote

import (
	"context"
	"slices"

	"vmcastfs/cache/source"
)

const urgencies = int(source.Background) + 1

// A queue admits a limited number of requests to one origin, the urgent first. One place
// is kept free for demand, and background gets a quarter of the places, so that what
// nobody waits for is never what a reader waits behind. The caller holds the lock that
// guards it.
type queue struct {
	limit   int
	busy    [urgencies]int
	waiting [urgencies][]chan struct{} // first come first served; closed on admission
}

func (q *queue) total() (n int) {
	for _, b := range q.busy {
		n += b
	}
	return n
}

// fits reports whether a request of urgency u may begin now.
func (q *queue) fits(u source.Urgency) bool {
	total := q.total()
	switch u {
	case source.Demand:
		return total < q.limit
	case source.ReadAhead:
		return total < max(q.limit-1, 1)
	default:
		return total < max(q.limit-1, 1) && q.busy[u] < max(q.limit/4, 1)
	}
}

// admit lets in all who may enter.
func (q *queue) admit() {
	for u := range q.waiting {
		for len(q.waiting[u]) > 0 && q.fits(source.Urgency(u)) {
			q.busy[u]++
			close(q.waiting[u][0])
			q.waiting[u] = q.waiting[u][1:]
		}
		if len(q.waiting[u]) > 0 {
			return
		}
	}
}

// enter waits for a place, to be given back by leave.
func (p *peer) enter(ctx context.Context, u source.Urgency) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	admitted := make(chan struct{})
	p.mu.Lock()
	p.queue.waiting[u] = append(p.queue.waiting[u], admitted)
	p.queue.admit()
	p.mu.Unlock()
	select {
	case <-admitted:
		return nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.queue.waiting[u], admitted); i >= 0 {
		p.queue.waiting[u] = slices.Delete(p.queue.waiting[u], i, i+1)
	} else {
		p.queue.busy[u]--
	}
	p.queue.admit()
	return context.Cause(ctx)
}

func (p *peer) leave(u source.Urgency) {
	p.mu.Lock()
	p.queue.busy[u]--
	p.queue.admit()
	p.mu.Unlock()
}
