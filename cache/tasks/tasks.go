// Package tasks runs the goroutines of something that is closed some time.
package tasks

import (
	"context"
	"sync"
)

// Tasks are functions that run in the background until Close. Any number of goroutines
// may use them.
type Tasks struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	work   sync.WaitGroup

	// mu guards closed, and that nothing begins once it is set. It is a leaf: a task may
	// be begun with any lock held.
	mu     sync.Mutex
	closed bool
}

// New makes Tasks of which none runs yet.
func New() *Tasks {
	t := new(Tasks)
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	return t
}

// Context ends when Close begins.
func (t *Tasks) Context() context.Context { return t.ctx }

// Run runs fn in a goroutine, with Context; false if Close has begun.
func (t *Tasks) Run(fn func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.work.Go(func() { fn(t.ctx) })
	}
	return !t.closed
}

// Close ends all tasks and waits for them. Cause is why, see [context.Cause].
func (t *Tasks) Close(cause error) {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cancel(cause)
	t.work.Wait()
}
