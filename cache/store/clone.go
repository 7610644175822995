package store

import (
	"errors"

	"golang.org/x/sys/unix"
)

// WriteCopy is WriteBlock for bytes that ReadBlock gave of block at of another file of the same store (or of this
// one): where the filesystem can, both blocks share one place on the disk.
func (f *File) WriteCopy(b int64, p []byte, from *File, at int64) error {
	return f.writeBlock(b, p, from, at)
}

// clone shares n bytes of another file's block with block b, or reports that it cannot. Room has been reserved.
func (f *File) clone(b int64, n int, from *File, at int64) bool {
	if f.s.noClone.Load() || n%4096 != 0 || f == from && b == at {
		return false
	}
	// While we have its journal nobody punches a hole into what is cloned.
	done, err := from.lockJournal()
	if err != nil {
		return false
	}
	defer done()
	if _, _, length, ok := from.peek(at, false); !ok || length != n {
		return false
	}
	err = control(f.data, func(fd int) error {
		return control(from.data, func(source int) error {
			return unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{
				Src_fd: int64(source), Src_offset: uint64(at * int64(from.blockSize)), Src_length: uint64(n),
				Dest_offset: uint64(b * int64(f.blockSize)),
			})
		})
	})
	for _, never := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, never) {
			f.s.noClone.Store(true) // of all files: they lie in one directory
		}
	}
	return err == nil
}

// Stamp tells whether what Stat would say of a file may have changed: it is the same as long as its journal is.
// It costs one stat; [fs.ErrNotExist] if there is no such file.
func (s *Store) Stamp(k Key) (Stamp, error) {
	if err := k.check(); err != nil {
		return Stamp{}, err
	}
	st, err := s.files.stat(string(k) + journalSuffix)
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{st.Ino, st.Size, st.Mtim.Nano()}, nil
}

// Stamp is a moment in the life of a cached file; see [Store.Stamp].
type Stamp struct {
	ino   uint64
	size  int64
	mtime int64
}
