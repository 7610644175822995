package bundle

import (
	"context"
	"fmt"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// small is a file that is held in memory.
type small struct {
	label   string // for people
	content []byte
	state   store.FileState // what its sums and signatures say
	note    string          // why
}

// newSmall compares a file with its sums in the manifest, which may be nil.
func newSmall(label, name string, content []byte, m *xvm.Manifest) *small {
	s := &small{label: label, content: content, state: store.Unverified, note: "the manifest does not list it"}
	if m == nil {
		s.note = "the package has no manifest"
		return s
	}
	for _, sum := range m.Sums(name) {
		d := sums.NewDigest(sum)
		d.Write(content)
		if why := d.Mismatch(); why != "" {
			s.state, s.note = store.Corrupt, why+" by the manifest"
			return s
		}
		if s.state != store.Verified {
			s.state, s.note = store.Verified, sum.Algo+" matches the manifest"
		}
	}
	return s
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
func (s *small) Size() int64 { return int64(len(s.content)) }

// Blocks is the size in units of 512 bytes.
func (s *small) Blocks() (n int64, settled bool) { return (s.Size() + 511) / 512, true }

// FindSize returns the size.
func (s *small) FindSize(context.Context) (int64, error) { return s.Size(), nil }

// Open opens the file unless it is known to be wrong.
func (s *small) Open(context.Context) (image.Handle, error) {
	if s.state == store.Corrupt {
		return nil, fmt.Errorf("%s: %w: %s", s.label, cache.ErrCorrupt, s.note)
	}
	return image.Memory(s.content), nil
}

// Status describes the file.
func (s *small) Status() image.Status {
	return image.Status{State: s.state.String(), Note: s.note, CachedBytes: s.Size(), Percent: 100}
}

// Known is Status.
func (s *small) Known() image.Status { return s.Status() }

// Attr has nothing to say.
func (s *small) Attr(string) string { return "" }
