package cache

import (
	"context"
	"sync"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

const (
	// warmers is how many ranges of a boot set are under way at a time.
	warmers = 4
	// warmPatience is how long the next one waits for readers that miss.
	warmPatience = time.Second
)

// CompleteBehind has the rest of the file fetched behind its readers, as
// Spec.Complete does.
func (h *File) CompleteBehind() {
	h.use.RLock()
	defer h.use.RUnlock()
	if !h.closed {
		h.e.s.lastMiss.Store(time.Now().UnixNano()) // its first reader comes before it
		h.e.completion.inBackground(leisure)
	}
}

// Warm fetches what is missing of a profile, in its order and behind all readers, at
// most bytes of it, and returns how many came. It ends with store.ErrFull when the cache
// has no room. It does nothing for a Forward source, and under Strict.
func (h *File) Warm(ctx context.Context, profile []Extent, most int64) (got int64, err error) {
	h.use.RLock()
	defer h.use.RUnlock()
	fl, st := h.e.flights, h.e.standing
	size := fl.local.size.Load()
	if h.closed || fl.runner != nil || size < 0 || st.strict.Load() || st.whole.Load() {
		return 0, nil
	}
	fo, _ := newFollower(profile, size, fl.local.bs)
	var work sync.WaitGroup
	defer work.Wait()
	slots, failed := make(chan struct{}, warmers), make(chan error, 1)
	for at := 0; at < len(fo.order) && got < most; {
		first := fo.order[at]
		if fl.local.here(first) {
			at++
			continue
		}
		last := first
		for at++; at < len(fo.order) && fo.order[at] == last+1 && last-first+1 < followRange && !fl.local.here(last+1); at++ {
			last++
		}
		for begun := time.Now(); fl.s.demand.Load() > 0 && time.Since(begun) < warmPatience; {
			select {
			case <-ctx.Done():
				return got, ctx.Err()
			case <-time.After(20 * time.Millisecond):
			}
		}
		select {
		case slots <- struct{}{}:
		case err := <-failed:
			return got, err
		case <-h.closing:
			return got, ErrClosed
		case <-ctx.Done():
			return got, ctx.Err()
		}
		if fl.full.Load() {
			return got, store.ErrFull
		}
		got += (last - first + 1) * fl.local.bs
		work.Go(func() {
			defer func() { <-slots }()
			if err := h.warmRange(ctx, first, last); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	work.Wait()
	select {
	case err = <-failed:
	default:
	}
	return got, err
}

// warmRange fetches what is missing of the blocks first..last.
func (h *File) warmRange(ctx context.Context, first, last int64) error {
	fl := h.e.flights
	for b := first; b <= last; {
		list := fl.acquire(b, last, want{urgency: source.Background})
		b += max(1, int64(len(list)))
		for i, f := range list {
			buf, err := fl.wait(ctx, h.closing, f)
			if err != nil {
				for _, f := range list[i+1:] {
					fl.leave(f)
				}
				return err
			}
			buf.release()
		}
	}
	return nil
}
