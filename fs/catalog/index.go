package catalog

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
	"weak"

	"vmcastfs/cache/remote"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
)

const (
	// indexTimeout bounds how long a listing waits for an archive that is not
	// indexed yet, also under hard: a directory must not hang.
	indexTimeout = 30 * time.Second
	// longIndex is for archives that take long to index. Some have many headers
	// (an XVA has two for each MiB). Others must be read whole: they are
	// compressed, or their server has no ranges.
	longIndex = 6 * time.Hour
	// indexPause is how long a failed indexing is not tried again.
	indexPause = 5 * time.Second
)

// Peek returns the package if it is indexed.
func (r *Release) Peek() (*bundle.Package, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := held(r)
	return p, p != nil
}

// held is the package, if it is in memory; mu is held.
func held(r *Release) *bundle.Package {
	if r.pkg != nil {
		return r.pkg
	}
	return r.idle.Value()
}

// giveBack forgets the package, as soon as nobody uses it. That of a release that is
// not the newest of its item cannot be had again. Pins and machines need theirs.
func giveBack(r *Release) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pkg != nil && !r.hold.firm() && r.line.newest.Load() == r {
		r.idle, r.pkg = weak.Make(r.pkg), nil
	}
}

// LastError is why the release could not be indexed, the last time it was
// tried; nil once it is.
func (r *Release) LastError() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == nil {
		return nil
	}
	return r.failed.err
}

// Package returns the indexed package. The first use reads what is persisted,
// or walks the archive over the network, once for however many ask; ctx ends
// only this caller's waiting.
func (r *Release) Package(ctx context.Context) (*bundle.Package, error) { return index(ctx, r, toUse) }

func index(ctx context.Context, r *Release, why purpose) (*bundle.Package, error) {
	for {
		r.mu.Lock()
		if p := held(r); p != nil {
			r.mu.Unlock()
			r.around.shelf.use(r, p.Bytes())
			return p, nil
		}
		if r.was != (packedKey{}) && r.line.newest.Load() != r {
			defer r.mu.Unlock()
			return nil, archive.ErrReplaced
		}
		if r.failed != nil {
			unlisted := errors.Is(r.failed.err, ErrNotListed)
			if unlisted && why < toUse || !unlisted && time.Since(r.failed.at) < indexPause {
				defer r.mu.Unlock()
				return nil, r.failed.err
			}
		}
		r.wanted = max(r.wanted, why)
		if r.loading == nil {
			r.loading = make(chan struct{})
			if !r.around.run(r.load) {
				close(r.loading)
				r.loading = nil
				defer r.mu.Unlock()
				return nil, context.Canceled
			}
		}
		loading := r.loading
		r.mu.Unlock()
		select {
		case <-loading:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// load indexes the release and says how that went.
func (r *Release) load(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(indexTimeout, func() { cancel(context.DeadlineExceeded) })
	defer deadline.Stop()
	ctx, stop := patience(archive.Quietly(ctx, func() bool { return unawaited(r) }), r.around.remote, r.URL)
	defer stop()
	was := r.URL()
	long := func() { deadline.Reset(longIndex) }
	p, err := r.open(ctx, long)
	if remote.IsLost(err) && r.renewed(ctx, was) != "" && r.URL() != was {
		p, err = r.open(ctx, long)
	}
	if err != nil {
		for _, cause := range []error{errDown, context.DeadlineExceeded} {
			if context.Cause(ctx) == cause && !errors.Is(err, cause) {
				err = fmt.Errorf("%w: %w", cause, err)
			}
		}
		if err = explain(r, err); errors.Is(err, ErrNotListed) {
			r.around.log.Info("a release is not listed yet", "release", r.Name(), "why", err)
		} else {
			r.around.log.Error("release cannot be opened", "release", r.Name(), "err", err)
		}
	} else {
		remember(r, p.Verdict())
		p.Prepare(ctx)
	}
	var is packedKey
	if err == nil {
		is = packKey(p.Is())
	}
	r.mu.Lock()
	replaced := err == nil && r.was != (packedKey{}) && r.was != is
	if replaced {
		err = archive.ErrReplaced // what was listed was of another one
	}
	if err != nil {
		r.failed = &failure{err, time.Now()}
	} else {
		r.pkg, r.was, r.failed = p, is, nil
	}
	close(r.loading)
	r.loading, r.taking, r.wanted = nil, nil, toKnow
	r.mu.Unlock()
	switch {
	case replaced:
		r.around.replace(r)
	case err == nil:
		p.Archive().Move() // it may have moved meanwhile
	}
}

// open finds the package. It calls long when that is going to take long.
func (r *Release) open(ctx context.Context, long func()) (_ *bundle.Package, err error) {
	defer func() {
		// A fault in what reads the archive must not end the process that
		// serves the mount.
		if p := recover(); p != nil {
			r.around.log.Error("panic while indexing a release", "release", r.Name(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	taking := func(w archive.Content) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.taking = w
	}
	p, asked, err := bundle.Open(ctx, r.around.bundles, r.told(), r.place(), bundle.Progress{Long: long, Taking: taking, Inflate: func() error { return mayInflate(r) }})
	if err == nil && asked {
		r.checker.done()
	}
	return p, err
}

// indexing tells whether the release is being indexed. Taken is how many bytes
// have come of an archive that has to be read, or inflated, whole.
func (r *Release) indexing() (taken int64, yes bool) {
	r.mu.Lock()
	w, yes := r.taking, r.loading != nil
	r.mu.Unlock()
	if w != nil {
		taken = w.Taken()
	}
	return taken, yes
}

// explain says what was found instead of a package, and what to do.
func explain(r *Release, err error) error {
	what := fmt.Sprintf("release %s: %s", r.Name(), show.URL(r.URL()))
	var tar *xvm.TarError
	switch {
	case errors.Is(err, remote.ErrNotFound):
		return fmt.Errorf("%s: the package is not on the server; tell the publisher: %w", what, err)
	case errors.Is(err, ErrNotListed):
		return fmt.Errorf("%s: %w; `ls DIR/%s/xvm.xml` or `vmcastfs prefetch DIR/%s` does, and then it is listed", what, err, r.Name(), r.Name())
	case errors.As(err, &tar):
		return fmt.Errorf("%s: %w; tell the publisher", what, err)
	case errors.Is(err, errDown):
		return fmt.Errorf("%s: its server has been failing; it is tried again at the next use: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer within %s; it is tried again at the next use: %w", what, indexTimeout, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
