package catalog

import (
	"context"
	"errors"
	"time"
)

// longIndex is for archives that take long to index: those with many headers (an
// XVA has two for each MiB); one that is compressed or on a server without ranges
// must be read whole.
const longIndex = 6 * time.Hour

// ErrIndexing: the archive of the release is still being read, and a listing
// does not wait for that.
var ErrIndexing = errors.New("its archive is still being read; try again later")

// PackageSoon is Package for a listing, which must not hang: it waits no longer
// than an archive with ranges takes, and goes on behind.
func (r *Release) PackageSoon(ctx context.Context) (*Package, error) {
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
