package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"sync/atomic"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// small is a file that describes others. It was read whole when its archive was
// indexed.
type small struct {
	label   string          // for people
	content []byte          // nil: it is fetched
	state   store.FileState // what its sums and signatures say
	note    string          // why
	from    *fetched
}

// fetched is a small file that is not held in memory.
type fetched struct {
	pieces, archive archive.Content // where it is from
	off, size       int64
	sum             []byte      // SHA-256
	here            atomic.Bool // it has come in this process
}

// newSmall compares a file with its sums in the manifest, which may be nil.
func newSmall(label, name string, content []byte, m *xvm.Manifest) *small {
	s := &small{label: label, content: content}
	s.judge(seeSmall(name, content, m), m)
	return s
}

func (s *small) judge(seen SeenSmall, m *xvm.Manifest) {
	switch {
	case m == nil:
		s.state, s.note = store.Unverified, "the package has no manifest"
	case seen.Not != "":
		s.state, s.note = store.Corrupt, seen.Not+" by the manifest"
	case seen.Matches != "":
		s.state, s.note = store.Verified, seen.Matches+" matches the manifest"
	default:
		s.state, s.note = store.Unverified, "the manifest does not list it"
	}
}

// fetch reads the file, which must be what was indexed.
func (f *fetched) fetch(ctx context.Context, label string) ([]byte, error) {
	for _, from := range []archive.Content{f.pieces, f.archive} {
		content, err := archive.Whole(ctx, from, f.off, f.size)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", label, err)
		}
		if sum := sha256.Sum256(content); bytes.Equal(sum[:], f.sum) {
			f.here.Store(true)
			return content, nil
		}
	}
	return nil, fmt.Errorf("%s: %w: it is not what was indexed", label, cache.ErrCorrupt)
}

// signed says what a signature proves of a file that no sum is known of.
func (s *small) signed(st *image.Status, standing xvm.Standing) {
	if s.state != store.Unverified {
		return
	}
	switch standing.By {
	case xvm.ByPublisher:
		st.State, st.Note = store.Verified.String(), "signed by "+standing.Signer
	case xvm.BySidecar:
		st.State, st.Note = store.Verified.String(), "its SHA-256 is in the sidecar signed by "+standing.Signer
	}
}

// Size in bytes.
func (s *small) Size() int64 {
	if s.from != nil {
		return s.from.size
	}
	return int64(len(s.content))
}

// Blocks is the size in units of 512 bytes.
func (s *small) Blocks() (n int64, settled bool) { return (s.Size() + 511) / 512, true }

// FindSize returns the size.
func (s *small) FindSize(context.Context) (int64, error) { return s.Size(), nil }

// Open opens the file unless it is known to be wrong.
func (s *small) Open(ctx context.Context) (image.Handle, error) {
	if s.state == store.Corrupt {
		return nil, fmt.Errorf("%s: %w: %s", s.label, cache.ErrCorrupt, s.note)
	}
	if s.from != nil {
		content, err := s.from.fetch(ctx, s.label)
		return image.Memory(content), err
	}
	return image.Memory(s.content), nil
}

// Status describes the file.
func (s *small) Status() image.Status {
	st := image.Status{State: s.state.String(), Note: s.note}
	if s.from == nil || s.from.here.Load() {
		st.CachedBytes, st.Percent = s.Size(), 100
	}
	return st
}

// Known is Status.
func (s *small) Known() image.Status { return s.Status() }

// Attr has nothing to say.
func (s *small) Attr(string) string { return "" }
