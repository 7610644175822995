package catalog

import (
	"context"
	"sync"
)

// tasks are the functions that run in the background.
//
// mu guards closed, and that nothing begins once it is set. It is a leaf: a task
// may be begun with any lock held.
type tasks struct {
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

func newTasks() *tasks {
	t := &tasks{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

// run runs fn in the background, until close; false if that has begun.
func (t *tasks) run(fn func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.work.Go(func() { fn(t.ctx) })
	return true
}

// close ends all tasks and waits for them.
func (t *tasks) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	t.work.Wait()
}
