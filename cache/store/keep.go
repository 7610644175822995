package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
)

// What people say of cached files lies in documents named by the key. So it outlives the process and
// holds for all of them.
const (
	kindKeep  = "keep"  // never evict it
	kindHold  = "hold"  // likewise, for as long as a mount says so
	kindLast  = "last"  // it cannot be fetched again: evict it last
	kindLabel = "label" // what it is
)

// saidOfFiles are these kinds. They go with the file.
var saidOfFiles = []string{kindKeep, kindHold, kindLast, kindLabel}

// maxLabel bounds a label, in bytes.
const maxLabel = 1024

// Keep protects a file from eviction: it stays, whole, until it is removed or Keep is taken back by
// Unkeep, and so do the documents named by it. It counts towards the limit all the same. There need not be
// such a file yet. size is what it may take in bytes, for Kept.
func (s *documents) Keep(k Key, size int64) error {
	if err := k.check(); err != nil {
		return err
	}
	return s.PutDoc(kindKeep, string(k), strconv.AppendInt(nil, size, 10))
}

// Unkeep takes Keep back.
func (s *documents) Unkeep(k Key) error {
	if err := k.check(); err != nil {
		return err
	}
	return s.DeleteDoc(kindKeep, string(k))
}

// Kept returns what Keep protects, and the sizes given to it.
func (s *documents) Kept() map[Key]int64 {
	sizes := make(map[Key]int64)
	for k := range s.kept() {
		raw, _ := s.GetDoc(kindKeep, string(k))
		n, _ := strconv.ParseInt(string(raw), 10, 64)
		sizes[k] = max(n, 0)
	}
	return sizes
}

// Hold says how much a file is protected, beside Keep. The documents named by the file are, too.
type Hold int

const (
	NoHold     Hold = iota // as any other
	EvictLast              // see [Store] on making room
	EvictNever             // as with Keep
)

// SetHold protects a file, or no longer does. There need not be such a file yet.
func (s *documents) SetHold(k Key, h Hold) error {
	if err := k.check(); err != nil {
		return err
	}
	var errs []error
	for _, x := range []struct {
		kind string
		of   Hold
	}{{kindHold, EvictNever}, {kindLast, EvictLast}} { // the new one before the old one goes
		has := s.HasDoc(x.kind, string(k))
		switch {
		case h == x.of && !has:
			errs = append(errs, s.PutDoc(x.kind, string(k), nil))
		case h != x.of && has:
			defer func() { _ = s.DeleteDoc(x.kind, string(k)) }() // it only protects too long
		}
	}
	return errors.Join(errs...)
}

// HoldOf is what SetHold said of a file last.
func (s *documents) HoldOf(k Key) Hold {
	switch {
	case s.HasDoc(kindHold, string(k)):
		return EvictNever
	case s.HasDoc(kindLast, string(k)):
		return EvictLast
	}
	return NoHold
}

// HeldStamp changes when a file is kept or held, or no longer is. It costs three stats.
func (s *documents) HeldStamp() (stamp int64) {
	for _, kind := range []string{kindKeep, kindHold, kindLast} {
		if st, err := s.root.StatOf(kind); err == nil {
			stamp += st.Mtim.Nano()
		}
	}
	return stamp
}

// kept lists the keys that Keep protects.
func (s *documents) kept() map[Key]bool { return s.keysOf(kindKeep) }

// held lists the keys of the files that are never evicted, and of those that go last.
func (s *documents) held() (never, last map[Key]bool) {
	never, last = s.kept(), s.keysOf(kindLast)
	for k := range s.keysOf(kindHold) {
		never[k] = true
	}
	return never, last
}

func (s *documents) keysOf(kind string) map[Key]bool {
	names, err := s.DocNames(kind)
	if err != nil {
		s.warn("cannot tell which files are to be kept", "err", err)
	}
	keys := make(map[Key]bool, len(names))
	for _, n := range names {
		keys[Key(n)] = true
	}
	return keys
}

// SetLabel says for people what the file is, such as "release/image"; see Info. It goes with the file.
func (s *documents) SetLabel(k Key, label string) error {
	if err := k.check(); err != nil {
		return err
	}
	if len(label) > maxLabel {
		return fmt.Errorf("label of %d bytes: more than %d", len(label), maxLabel)
	}
	if s.Label(k) == label {
		return nil
	}
	return s.PutDoc(kindLabel, string(k), []byte(label))
}

// Label returns what SetLabel said of the file, "" if nothing.
func (s *documents) Label(k Key) string {
	raw, _ := s.GetDoc(kindLabel, string(k))
	if len(raw) > maxLabel {
		return ""
	}
	return string(raw)
}

// forgetFile drops what is known of a file that is gone.
func (s *documents) forgetFile(k Key) {
	for _, kind := range saidOfFiles {
		if err := s.DeleteDoc(kind, string(k)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.warn("a document of a removed file stays", "kind", kind, "err", err)
		}
	}
}
