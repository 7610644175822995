package catalog

import (
	"context"
	"errors"
	"io/fs"
	"sync"

	"vmcastfs/cache/remote"
)

// failures counts looks at the feed that brought none, by reason.
//
// mu guards what follows it; it is a leaf.
type failures struct {
	mu sync.Mutex
	by map[string]int
}

func (f *failures) count(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		return
	}
	var status *remote.StatusError
	reason := "network"
	switch {
	case errors.As(err, &status):
		reason = "status"
	case errors.Is(err, remote.ErrProtocol), errors.Is(err, remote.ErrTooLarge):
		reason = "answer"
	case errors.Is(err, remote.ErrRefused), errors.Is(err, fs.ErrPermission):
		reason = "refused"
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.by == nil {
		f.by = make(map[string]int)
	}
	f.by[reason]++
}

// reasons are the counts of all reasons; what of the total had none of them was
// fetched, and is no feed.
func (f *failures) reasons(total int) map[string]int {
	by := map[string]int{"network": 0, "status": 0, "answer": 0, "refused": 0, "invalid": total}
	f.mu.Lock()
	defer f.mu.Unlock()
	for reason, n := range f.by {
		by[reason] = n
		by["invalid"] = max(0, by["invalid"]-n)
	}
	return by
}
