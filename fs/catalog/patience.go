package catalog

import (
	"context"
	"errors"
	"time"

	"vmcastfs/cache/remote"
)

const (
	// downPatience is how long a listing waits for a server that has been failing
	// for downTime. It is long enough to see whether the server is back.
	downPatience = 1500 * time.Millisecond
	downTime     = 3 * time.Second
)

// errDown ends the waiting for what a listing needs.
var errDown = errors.New("the server does not answer")

// patience returns a context for what a listing waits for: it ends with errDown
// once the server of url has failed for a while. Content is waited for as hard or
// soft has it, but ls and stat shall not hang.
func patience(ctx context.Context, client *remote.Client, url func() string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	begun := time.Now()
	go func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			since := client.FailingSince(url())
			if !since.IsZero() && time.Since(begun) >= downPatience && time.Since(since) >= downTime {
				cancel(errDown)
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}
