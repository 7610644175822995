package cache

import (
	"context"

	"vmcastfs/cache/source"
)

// WithUrgency sets the urgency of fetches for reads with the context, of any
// file of the cache; without it they are [source.Demand]. A source that sits on
// another file of the cache needs it: else its own reads would pass for those
// of a waiting reader, and background completion would stand back for itself.
// The context of Fetch of a Forward source has it already.
func WithUrgency(ctx context.Context, u source.Urgency) context.Context {
	return source.WithUrgency(ctx, func() source.Urgency { return u })
}

type narrowKey struct{}

// Narrowly has a read fetch the blocks it needs and not their neighbours. It is
// for a look at a file that need not be the beginning of its use.
func Narrowly(ctx context.Context) context.Context {
	return context.WithValue(ctx, narrowKey{}, true)
}
