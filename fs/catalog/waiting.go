package catalog

import (
	"context"
	"errors"
	"time"

	"vmcastfs/fs/catalog/bundle"
)

// ErrIndexing: the archive of the release is still being read, and a listing
// does not wait for that.
var ErrIndexing = errors.New("its archive is still being read; try again later")

// ErrNotListed: the archive is compressed as a whole, and a listing does not fetch and
// inflate all of it.
var ErrNotListed = errors.New("it is compressed as a whole, and a listing does not inflate it")

// purpose is what an index is wanted for.
type purpose int

const (
	toKnow purpose = iota // nobody waits for it
	toList                // somebody looks at the directory
	toUse                 // a file is asked for by its name
)

// unawaited tells whether nobody waits for the index of the release.
func unawaited(r *Release) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.wanted == toKnow
}

// mayInflate is asked before an archive that is compressed as a whole is inflated.
func mayInflate(r *Release) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.wanted < toUse {
		return ErrNotListed
	}
	return nil
}

// Listed is PackageSoon for a look at the directory. It gives [ErrNotListed] where
// that would have to inflate an archive.
func Listed(ctx context.Context, r *Release) (*bundle.Package, error) { return soon(ctx, r, toList) }

// PackageSoon is Package for a listing, which must not hang: it waits no longer
// than an archive with ranges takes, and goes on behind.
func (r *Release) PackageSoon(ctx context.Context) (*bundle.Package, error) {
	return soon(ctx, r, toUse)
}

func soon(ctx context.Context, r *Release, why purpose) (*bundle.Package, error) {
	if p, ok := r.Peek(); ok {
		r.around.shelf.use(r, p.Bytes())
		return p, nil
	}
	within, cancel := context.WithTimeoutCause(ctx, listPatience, ErrIndexing)
	defer cancel()
	p, err := index(within, r, why)
	if err != nil && ctx.Err() == nil && errors.Is(err, within.Err()) && context.Cause(within) == ErrIndexing {
		return nil, &indexingError{r.Name()}
	}
	return p, err
}

const listPatience = indexTimeout + 2*time.Second

type indexingError struct{ release string }

func (e *indexingError) Error() string { return "release " + e.release + ": " + ErrIndexing.Error() }
func (e *indexingError) Unwrap() error { return ErrIndexing }
