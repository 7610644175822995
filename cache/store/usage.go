package store

import (
	"math"
	"strings"

	"golang.org/x/sys/unix"
)

// usage is what a cache takes on the disk, in bytes.
type usage struct {
	blocks    int64 // data files, those on their way out included
	journals  int64
	documents int64
	files     int // how many
}

func (u usage) total() int64 { return u.blocks + u.journals + u.documents }

// usage asks the filesystem, so that there is no count to go wrong in a crash.
func (s *Store) usage() (u usage) {
	err := s.files.Each(func(n string) {
		if strings.HasSuffix(n, lockSuffix) {
			return // empty
		}
		st, err := s.files.StatOf(n)
		if err != nil {
			return
		}
		if strings.HasSuffix(n, dataSuffix) || strings.HasPrefix(n, gonePrefix) {
			u.blocks += st.Blocks * 512
		} else {
			u.journals += st.Blocks * 512
		}
		if k, ok := strings.CutSuffix(n, journalSuffix); ok && Key(k).check() == nil {
			u.files++
		}
	})
	if err != nil {
		return usage{blocks: math.MaxInt64 / 2} // unknown is too much
	}
	s.eachDoc(func(e docEntry) { u.documents += e.bytes })
	return u
}

// free is what the filesystem has left for us, in bytes.
func (d filesDir) free() (int64, error) {
	var st unix.Statfs_t
	if err := control(d.File, func(fd int) error { return unix.Fstatfs(fd, &st) }); err != nil {
		return 0, err
	}
	return int64(min(st.Bavail, math.MaxInt64/uint64(st.Bsize))) * st.Bsize, nil
}
