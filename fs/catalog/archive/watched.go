package archive

import (
	"context"
	"errors"
	"fmt"
	"io"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
)

// watch makes a source notice when its enclosure is replaced.
func watch(s source.Source, place Place) source.Source {
	return source.Wrap(s, func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		body, err := s.Fetch(ctx, off, n, u)
		if err != nil {
			return nil, place.noteReplaced(err)
		}
		return &watchedBody{body, place}, nil
	})
}

// noteReplaced tells whose archive it is that it was replaced.
func (p Place) noteReplaced(err error) error {
	if p.Replaced == nil || !errors.Is(err, remote.ErrChanged) {
		return err
	}
	p.Replaced()
	return fmt.Errorf("%w: %w", ErrReplaced, err)
}

type watchedBody struct {
	io.ReadCloser
	place Place
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	return n, b.place.noteReplaced(err)
}
