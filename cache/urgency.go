package cache

import (
	"context"

	"vmcastfs/cache/source"
)

type urgencyKey struct{}

// WithUrgency has what is read with the context, of any file of the cache, be
// fetched with that urgency rather than as [Demand]. A source that sits on
// another file of the cache needs it, else its own reads would pass for those
// of a waiting reader, and background completion stand back for itself. The
// context of Fetch of a Forward source has it already.
func WithUrgency(ctx context.Context, u source.Urgency) context.Context {
	return withUrgency(ctx, func() source.Urgency { return u })
}

type narrowKey struct{}

// Narrowly has a read fetch the blocks it needs and not their neighbours: of a
// look at a file that need not be the beginning of its use.
func Narrowly(ctx context.Context) context.Context {
	return context.WithValue(ctx, narrowKey{}, true)
}

func withUrgency(ctx context.Context, now func() source.Urgency) context.Context {
	return context.WithValue(ctx, urgencyKey{}, now)
}

func urgencyOf(ctx context.Context) source.Urgency {
	if now, ok := ctx.Value(urgencyKey{}).(func() source.Urgency); ok {
		return now()
	}
	return source.Demand
}

// runnerUrgency is for whom the runner of a forward source works just now.
func (f *content) runnerUrgency() source.Urgency {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.target(); t != nil {
		return t.urgency
	}
	return source.ReadAhead
}
