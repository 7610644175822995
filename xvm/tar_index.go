package xvm

import (
	"errors"
	"fmt"
	"strings"
)

// Validate says what is wrong with an index that was read back from a disk, if anything is: it holds whatever Walk
// promises of names, offsets and sizes. Whether it is of the archive at hand is for the caller to know.
func (x *Index) Validate() error {
	if x.Version != indexVersion {
		return fmt.Errorf("tar index has version %d, not %d", x.Version, indexVersion)
	}
	if x.Size < 0 {
		return errors.New("tar index has a negative size")
	}
	if clean, _, reason := tarName(x.Root); x.Root != "" && (clean != x.Root || reason != "") {
		return fmt.Errorf("tar index: bad root %q", shownName(x.Root))
	}
	names := make(map[string]*Member, len(x.Members))
	var total int64
	for i := range x.Members {
		m := &x.Members[i]
		clean, slash, reason := tarName(m.Name)
		if clean != m.Name || slash || reason != "" {
			return fmt.Errorf("tar index: bad name %q", shownName(m.Name))
		}
		if names[m.Name] != nil {
			return fmt.Errorf("tar index: %q is there twice", m.Name)
		}
		if err := m.validate(x.Size); err != nil {
			return fmt.Errorf("tar index: member %q: %w", m.Name, err)
		}
		if m.Link == "" {
			if total += m.Size; total < 0 {
				return errors.New("tar index: sizes exceed 2^63-1")
			}
		} else if t := names[m.Link]; t == nil || t.Offset != m.Offset || t.Stored != m.Stored || t.Size != m.Size {
			return fmt.Errorf("tar index: member %q: link to another file", m.Name)
		}
		names[m.Name] = m
	}
	for name := range names {
		for i, c := range name {
			if c == '/' && names[name[:i]] != nil {
				return fmt.Errorf("tar index: %q is a file and a directory", name[:i])
			}
		}
	}
	if dir := x.packageDir(); dir != "" {
		return fmt.Errorf("tar index: it is of before %q was taken for the package's root", shownName(dir))
	}
	for _, h := range x.Hidden {
		if !tame(h.Name) || !tame(h.Reason) {
			return errors.New("tar index: hidden name does not print")
		}
	}
	if !tame(x.Truncated) {
		return errors.New("tar index: reason does not print")
	}
	return nil
}

// validate checks a member of an archive of size bytes.
func (m *Member) validate(size int64) error {
	switch {
	case m.Offset < 0 || m.Stored < 0 || m.Offset > size || m.Stored > size-m.Offset:
		return errors.New("beyond the archive")
	case m.Size < 0 || m.Segments == nil && m.Size != m.Stored:
		return errors.New("bad size")
	case m.Mode&^0o444 != 0:
		return errors.New("bad mode")
	}
	if m.Segments == nil {
		return nil
	}
	end, archive := int64(0), m.Offset
	for _, s := range m.Segments {
		if s.Len <= 0 || s.Logical < end || s.Logical > m.Size || s.Len > m.Size-s.Logical ||
			s.Archive != archive || s.Len > m.Offset+m.Stored-archive {
			return errors.New("bad segments")
		}
		end, archive = s.Logical+s.Len, archive+s.Len
	}
	if archive != m.Offset+m.Stored {
		return errors.New("segments do not add up")
	}
	return nil
}

// BareIndex is the index of a disk image that is no archive: as if it were the
// one member of one without headers.
func BareIndex(name string, size int64) *Index {
	return &Index{Version: indexVersion, Size: size, Members: []Member{{Name: name, Stored: size, Size: size}}}
}

// tame reports whether a text that is kept with an index may be shown. Those of
// earlier versions have U+FFFD for what is left out now.
func tame(s string) bool {
	s = strings.ReplaceAll(s, "\ufffd", "")
	return shownName(s) == s
}
