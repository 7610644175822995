// Package source is what the block cache and the suppliers of bytes agree on:
// a [Source] is asked for a range, with an [Urgency], and answers with a stream.
// The cache calls it; package remote and the catalog implement it.
//
// Methods of a source are called from many goroutines at once.
package source

import (
	"context"
	"errors"
	"fmt"
	"io"
)

// Urgency says who waits for bytes. A source with few connections serves the
// lower value first.
type Urgency int

const (
	// Demand: a reader waits for exactly these bytes.
	Demand Urgency = iota
	// ReadAhead: a reader is likely to ask for them soon.
	ReadAhead
	// Background: completion of a file that nobody waits for.
	Background
)

// String returns the name used in logs and metrics.
func (u Urgency) String() string {
	switch u {
	case Demand:
		return "demand"
	case ReadAhead:
		return "readahead"
	case Background:
		return "background"
	}
	return fmt.Sprintf("urgency(%d)", int(u))
}

var (
	// ErrCorrupt is wrapped by the error of a source whose content contradicts
	// its own checks. What the source gave before is in doubt too: the cache gives
	// up every block that no sum of its own proves, and the file is corrupt.
	ErrCorrupt = errors.New("the source's content is wrong")
	// ErrDoubt is wrapped by the error of a [Forward] source that began at a place
	// it should not have trusted, and trusts no longer. The cache gives up every
	// block that no sum of its own proves, and asks again.
	ErrDoubt = errors.New("what the source gave is in doubt")
)

// Source supplies the bytes of a plain file.
type Source interface {
	// Fetch returns a stream of exactly n bytes from off. The stream ends
	// early only with an error other than io.EOF; retries happen inside. It
	// must end soon after ctx does. The cache closes the stream, possibly
	// before its end.
	Fetch(ctx context.Context, off, n int64, u Urgency) (io.ReadCloser, error)
}

// Forward is a Source that produces its bytes only forward: an inflating
// reader, a server without ranges. The cache runs at most one Fetch of a
// Forward source per file at a time, always with n = -1, which means: stream up to
// the true end, and report that by io.EOF.
type Forward interface {
	Source
	// Start returns the greatest offset ≤ off where Fetch can begin without
	// producing what lies before it. It is cheap and does no I/O.
	Start(off int64) int64
}

// Func is a Source that is one function.
type Func func(ctx context.Context, off, n int64, u Urgency) (io.ReadCloser, error)

// Fetch calls f.
func (f Func) Fetch(ctx context.Context, off, n int64, u Urgency) (io.ReadCloser, error) {
	return f(ctx, off, n, u)
}

// Wrap returns s with fetch in the place of its Fetch. It is a Forward if s is.
func Wrap(s Source, fetch Func) Source {
	if f, ok := s.(Forward); ok {
		return forward{fetch, f.Start}
	}
	return fetch
}

// NewForward returns a Forward that is two functions.
func NewForward(fetch Func, start func(off int64) int64) Forward { return forward{fetch, start} }

type forward struct {
	Func
	start func(off int64) int64
}

func (f forward) Start(off int64) int64 { return f.start(off) }

type urgencyKey struct{}

// WithUrgency sets the urgency of what is fetched with the context; without it that is
// [Demand]. Now is asked for each fetch.
func WithUrgency(ctx context.Context, now func() Urgency) context.Context {
	return context.WithValue(ctx, urgencyKey{}, now)
}

// UrgencyOf is that of WithUrgency.
func UrgencyOf(ctx context.Context) Urgency {
	if now, ok := ctx.Value(urgencyKey{}).(func() Urgency); ok {
		return now()
	}
	return Demand
}
