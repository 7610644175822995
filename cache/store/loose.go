package store

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// looseFile is a File for which the disk has no place: full, broken, read-only, deleted, or something of another
// user is where it should be. Everything about it is in anonymous memory, and it takes no data but zeros, so that its
// user works uncached. Who opens the key after the last Close tries the disk again.
func (s *Store) looseFile(k Key, blockSize int, cause error) (*File, error) {
	f := &File{
		s: s, key: k, blockSize: blockSize, loose: cause,
		dirty: map[int64]uint64{}, claims: map[int64]*claim{}, im: newImage(blockSize),
	}
	h := header{key: k, blockSize: blockSize, salt: randomSalt()}
	for _, x := range []**os.File{&f.lock, &f.data, &f.j.f} {
		fd, err := unix.MemfdCreate("vmcastfs", unix.MFD_CLOEXEC)
		if err != nil {
			f.shut()
			return nil, fmt.Errorf("%w; and no memory in its place: %w", cause, err)
		}
		*x = os.NewFile(uintptr(fd), "(memory)")
	}
	if _, err := f.j.f.WriteAt(h.encode(), 0); err != nil {
		f.shut()
		return nil, fmt.Errorf("%w; and no memory in its place: %w", cause, err)
	}
	f.j.h, f.j.pos, f.j.compactAt = h, headerSize, minCompact
	s.log.Warn("a file is not cached until it is closed and opened again", "file", k, "err", cause)
	return f, nil
}
