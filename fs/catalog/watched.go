package catalog

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// watch makes the release notice when its archive is replaced on the server.
func (r *Release) watch(a *archive) *archive {
	watched := *a
	w := watchedSource{a, a.Source, r, func(err error) error {
		if !errors.Is(err, remote.ErrChanged) {
			return err
		}
		r.cat.replace(r)
		return fmt.Errorf("%w: %w", ErrReplaced, err)
	}}
	watched.Source = w
	if f, ok := a.Source.(source.Forward); ok {
		watched.Source = watchedForward{w, f}
	}
	return &watched
}

type watchedSource struct {
	archive *archive
	source.Source
	release *Release
	see     func(error) error
}

func (w watchedSource) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	body, err := w.fetch(ctx, off, n, u)
	if err != nil {
		return nil, w.see(err)
	}
	return &watchedBody{body, w, ctx, u, off, n}, nil
}

// fetch asks again at a fresh URL if the one there was has expired.
func (w watchedSource) fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	for tries := 0; ; tries++ {
		url := w.release.URL()
		body, err := w.Source.Fetch(ctx, off, n, u)
		if tries == maxRenewals || !isLost(err) || !w.release.renewed(ctx, url) {
			return body, err
		}
		w.archive.moveTo(w.release)
	}
}

// maxRenewals bounds how often one fetch follows the feed to a fresh URL.
const maxRenewals = 2

type watchedForward struct {
	watchedSource
	forward source.Forward
}

func (w watchedForward) Start(off int64) int64 { return w.forward.Start(off) }

type watchedBody struct {
	io.ReadCloser
	w       watchedSource
	ctx     context.Context
	urgency source.Urgency
	off, n  int64 // what is still to come; n may be store.Unknown
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.off += int64(n)
	if b.n != store.Unknown {
		b.n -= int64(n)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if isLost(err) { // its URL expired under it
		if body, again := b.w.fetch(b.ctx, b.off, b.n, b.urgency); again == nil {
			b.ReadCloser.Close()
			b.ReadCloser = body
			return n, nil
		}
	}
	return n, b.w.see(err)
}
