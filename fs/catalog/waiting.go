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

// PackageSoon is Package for a listing, which must not hang: it waits no longer
// than an archive with ranges takes, and goes on behind.
func (r *Release) PackageSoon(ctx context.Context) (*bundle.Package, error) {
	if p, ok := r.Peek(); ok {
		return p, nil
	}
	soon, cancel := context.WithTimeoutCause(ctx, listPatience, ErrIndexing)
	defer cancel()
	p, err := r.Package(soon)
	if err != nil && ctx.Err() == nil && errors.Is(err, soon.Err()) && context.Cause(soon) == ErrIndexing {
		return nil, &indexingError{r.Name()}
	}
	return p, err
}

const listPatience = indexTimeout + 2*time.Second

type indexingError struct{ release string }

func (e *indexingError) Error() string { return "release " + e.release + ": " + ErrIndexing.Error() }
func (e *indexingError) Unwrap() error { return ErrIndexing }
