package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
)

// maxRenewals bounds how often one fetch follows the feed to a fresh URL.
const maxRenewals = 2

// watch makes the archive follow its enclosure to a fresh URL, and notice when
// it is replaced.
func (a *Archive) watch(s source.Source) source.Source {
	return source.Wrap(s, func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		again := func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
			return a.fetchRenewed(ctx, s, off, n, u)
		}
		body, err := again(ctx, off, n)
		if err != nil {
			return nil, a.noteReplaced(err)
		}
		return &watchedBody{body, a, ctx, again, off, n}, nil
	})
}

// fetchRenewed asks again at a fresh URL if the one there was has expired.
func (a *Archive) fetchRenewed(ctx context.Context, s source.Source, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	for tries := 0; ; tries++ {
		url := a.place.URL()
		body, err := s.Fetch(ctx, off, n, u)
		if tries == maxRenewals || !IsLost(err) || a.place.Renew == nil || !a.place.Renew(ctx, url) {
			return body, err
		}
		a.Move()
	}
}

// noteReplaced tells whose archive it is that it was replaced.
func (a *Archive) noteReplaced(err error) error {
	if a.place.Replaced == nil || !errors.Is(err, remote.ErrChanged) {
		return err
	}
	a.place.Replaced()
	return fmt.Errorf("%w: %w", ErrReplaced, err)
}

// IsLost tells answers that an enclosure's URL is no good any more: it was
// withdrawn, or signed and has expired.
func IsLost(err error) bool {
	var status *remote.StatusError
	if !errors.As(err, &status) {
		return false
	}
	switch status.Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

type watchedBody struct {
	io.ReadCloser
	archive *Archive
	ctx     context.Context
	again   func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	off, n  int64 // what is still to come; n < 0: to the end
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.off += int64(n)
	if b.n >= 0 {
		b.n -= int64(n)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	if IsLost(err) { // its URL expired under it
		if body, again := b.again(b.ctx, b.off, b.n); again == nil {
			b.ReadCloser.Close()
			b.ReadCloser = body
			return n, nil
		}
	}
	return n, b.archive.noteReplaced(err)
}
