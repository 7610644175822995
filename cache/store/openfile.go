package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// openFile opens the files of k. With blockSize 0 they must exist.
func (s *Store) openFile(k Key, blockSize int) (_ *File, err error) {
	f := &File{
		s: s, key: k, blockSize: blockSize,
		dirty: map[int64]uint64{}, claims: map[int64]*claim{},
	}
	f.lastUse.Store(time.Now().UnixNano())
	defer func() {
		if err != nil {
			f.shut()
		}
	}()
	if blockSize == 0 {
		if _, err := s.files.stat(string(k) + journalSuffix); err != nil {
			return nil, err
		}
	}
	for {
		if f.lock, err = s.files.open(string(k)+lockSuffix, unix.O_RDWR|unix.O_CREAT); err != nil {
			return nil, full(err)
		}
		if err = waitLock(f.lock, unix.F_RDLCK, lockOpen, lockPatience); err != nil {
			return nil, err
		}
		// Who removes the file takes the lock file away with it: then the lock is worth nothing.
		var st unix.Stat_t
		if err = unix.Fstat(int(f.lock.Fd()), &st); err != nil {
			return nil, err
		}
		if st.Nlink > 0 {
			break
		}
		f.lock.Close()
	}
	if err = waitLock(f.lock, unix.F_WRLCK, lockJournal, lockPatience); err != nil {
		return nil, err
	}
	defer unlock(f.lock, lockJournal)
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f, f.load()
}

// load reads the journal, or begins one. The caller holds the journal lock.
func (f *File) load() error {
	var err error
	if f.j.f, err = f.s.files.open(string(f.key)+journalSuffix, unix.O_RDWR); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.data, err = f.s.files.open(string(f.key)+dataSuffix, unix.O_RDWR); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.j.f == nil || f.data == nil {
		return f.begin()
	}
	h, err := readHeader(f.j.f, f.key)
	if errors.Is(err, errHeader) {
		f.s.log.Warn("cached file starts afresh", "file", f.key, "err", err)
		return f.begin()
	}
	if err != nil {
		return err
	}
	f.j.h, f.blockSize = h, h.blockSize
	f.j.pos = headerSize
	f.j.compactAt = minCompact
	f.im = newImage(f.blockSize)
	if err := f.readTail(f.im, false); err != nil {
		return err
	}
	if err := f.cutTail(); err != nil {
		return err
	}
	if f.im.size != Unknown {
		f.sizeOnce.Store(f.im.size + 1)
		if err := f.fitData(); err != nil {
			return err
		}
	}
	f.tidy()
	return nil
}

// begin makes the file anew: whatever bytes are there, nothing says what they are.
func (f *File) begin() error {
	if f.blockSize == 0 {
		return fmt.Errorf("its journal is missing or damaged: %w", fs.ErrNotExist)
	}
	if lockedElsewhere(f.lock, lockHold) {
		return ErrInUse
	}
	var err error
	if f.data == nil {
		if f.data, err = f.s.files.open(string(f.key)+dataSuffix, unix.O_RDWR|unix.O_CREAT); err != nil {
			return full(err)
		}
	}
	if err := f.data.Truncate(0); err != nil {
		return err
	}
	f.j.h = header{key: f.key, blockSize: f.blockSize, salt: randomSalt()}
	nf, err := f.s.files.replace(string(f.key)+journalSuffix, f.j.h.encode())
	if err != nil {
		return full(err)
	}
	if f.j.f != nil {
		f.j.f.Close()
	}
	f.j.f, f.j.pos, f.j.compactAt = nf, headerSize, minCompact
	f.im = newImage(f.blockSize)
	return nil
}

// fitData gives the data file the length of the file, so that the kernel can read it in our place.
func (f *File) fitData() error {
	var st unix.Stat_t
	if err := control(f.data, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if st.Size == f.im.size {
		return nil
	}
	return f.data.Truncate(f.im.size)
}

// randomSalt is never zero, so that zeros never pass for a record.
func randomSalt() uint32 {
	var b [4]byte
	rand.Read(b[:]) // cannot fail: see crypto/rand
	return binary.LittleEndian.Uint32(b[:]) | 1
}
