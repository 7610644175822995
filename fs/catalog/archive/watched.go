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

// watched is a source that follows its enclosure to a fresh URL, and notices when
// it is replaced.
type watched struct {
	source source.Source
	place  Place
	move   func() // has the source asked for where the enclosure is now
}

func watch(s source.Source, place Place, move func()) source.Source {
	return source.Wrap(s, watched{s, place, move}.fetch)
}

func (w watched) fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	body, err := w.renewed(ctx, off, n, u)
	if err != nil {
		return nil, w.noteReplaced(err)
	}
	return &watchedBody{body, w, ctx, u, off, n}, nil
}

// renewed asks again at a fresh URL if the one there was has expired.
func (w watched) renewed(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	for tries := 0; ; tries++ {
		url := w.place.URL()
		body, err := w.source.Fetch(ctx, off, n, u)
		if tries == maxRenewals || !IsLost(err) || w.place.Renew == nil || !w.place.Renew(ctx, url) {
			return body, err
		}
		w.move()
	}
}

// noteReplaced tells whose archive it is that it was replaced.
func (w watched) noteReplaced(err error) error {
	if w.place.Replaced == nil || !errors.Is(err, remote.ErrChanged) {
		return err
	}
	w.place.Replaced()
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
	watched watched
	ctx     context.Context
	urgency source.Urgency
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
		if body, again := b.watched.renewed(b.ctx, b.off, b.n, b.urgency); again == nil {
			b.ReadCloser.Close()
			b.ReadCloser = body
			return n, nil
		}
	}
	return n, b.watched.noteReplaced(err)
}
