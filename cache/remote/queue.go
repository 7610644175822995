package remote

import (
	"context"
	"slices"
	"time"

	"vmcastfs/cache/source"
)

const urgencies = int(source.Background) + 1

// A queue admits requests to one origin at its pace, the urgent first. One place is kept
// free for demand, and background gets a quarter of the places: no reader waits behind what
// nobody waits for. The caller holds the lock that guards it.
type queue struct {
	pace    pace
	timer   *time.Timer // admits when the pace allows it; nil unless it is to
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
	total, places := q.total(), q.pace.places()
	switch u {
	case source.Demand:
		return total < places
	case source.ReadAhead:
		return total < max(places-1, 1)
	default:
		return total < max(places-1, 1) && q.busy[u] < max(places/4, 1)
	}
}

// admit lets in all who may enter. The caller holds p.mu.
func (p *peer) admit() {
	q := &p.queue
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
	for u := range q.waiting {
		for len(q.waiting[u]) > 0 && q.fits(source.Urgency(u)) {
			now := time.Now()
			if wait := q.pace.wait(now); wait > 0 {
				q.timer = time.AfterFunc(wait, func() {
					p.mu.Lock()
					defer p.mu.Unlock()
					p.admit()
				})
				return
			}
			q.pace.started(now)
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
	p.admit()
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
	p.admit()
	return context.Cause(ctx)
}

func (p *peer) leave(u source.Urgency) {
	p.mu.Lock()
	p.queue.busy[u]--
	p.admit()
	p.mu.Unlock()
}
