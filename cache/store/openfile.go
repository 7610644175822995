package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// openFile opens the files of k. With blockSize 0 they must exist.
func (s *Store) openFile(k Key, blockSize int) (_ *File, err error) {
	f := s.newFile(k, blockSize)
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
	if s.readOnly {
		return f, f.loadReadOnly()
	}
	lock, err := s.lockOpenFile(k)
	if err != nil {
		return nil, err
	}
	f.setLock(lock)
	if err = waitLock(f.lock, unix.F_WRLCK, lockJournal, lockPatience); err != nil {
		return nil, err
	}
	defer unlock(f.lock, lockJournal)
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f, f.load()
}

// lockOpenFile opens the lock file of k and says that the file is open.
func (s *Store) lockOpenFile(k Key) (*os.File, error) {
	for {
		lock, err := s.files.open(string(k)+lockSuffix, unix.O_RDWR|unix.O_CREAT)
		if err != nil {
			return nil, full(err)
		}
		err = waitLock(lock, unix.F_RDLCK, lockOpen, lockPatience)
		// A process that removes the file takes the lock file away with it: then the lock is worth nothing.
		var st unix.Stat_t
		if err == nil {
			err = unix.Fstat(int(lock.Fd()), &st)
		}
		if err == nil && st.Nlink > 0 {
			return lock, nil
		}
		lock.Close()
		if err != nil {
			return nil, err
		}
	}
}

// load reads the journal, or begins one. The caller holds the journal lock.
func (f *File) load() error {
	jf, err := f.s.files.open(string(f.key)+journalSuffix, unix.O_RDWR)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.j.f = jf
	if f.data.f, err = f.s.files.open(string(f.key)+dataSuffix, unix.O_RDWR); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if f.j.f == nil || f.data.f == nil {
		return f.beginAfresh()
	}
	h, err := readHeader(f.j.f, f.key)
	if errors.Is(err, errHeader) {
		f.s.log.Warn("cached file starts afresh", "file", f.key, "err", err)
		return f.beginAfresh()
	}
	if err != nil {
		return err
	}
	if err := f.replay(h); err != nil {
		return err
	}
	if err := f.j.cutTail(); err != nil {
		return err
	}
	if n := f.present.knownSize(); n != Unknown {
		if err := f.data.fit(n); err != nil {
			return err
		}
	}
	f.j.tidy()
	return nil
}

// replay takes what the open journal says. The caller holds j.mu.
func (f *File) replay(h header) error {
	f.data.blockSize, f.j.data = h.blockSize, f.data.f
	m, err := f.j.readAll(f.j.f, h)
	if err != nil {
		return err
	}
	f.present.replace(m)
	return nil
}

// loadReadOnly opens a file on a disk that takes no writes. Its lock file is opened for reading only, so
// that shared locks can be had and exclusive ones cannot.
func (f *File) loadReadOnly() (err error) {
	name := string(f.key)
	lock, err := f.s.files.open(name+lockSuffix, unix.O_RDONLY)
	if err != nil {
		return err
	}
	f.setLock(lock)
	if err := waitLock(lock, unix.F_RDLCK, lockOpen, lockPatience); err != nil {
		return err
	}
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	if f.j.f, err = f.s.files.open(name+journalSuffix, unix.O_RDONLY); err != nil {
		return err
	}
	if f.data.f, err = f.s.files.open(name+dataSuffix, unix.O_RDONLY); err != nil {
		return err
	}
	h, err := readHeader(f.j.f, f.key)
	if err != nil {
		return err
	}
	return f.replay(h)
}

// beginAfresh makes the file anew: whatever bytes are there, nothing says what they are. The caller
// holds the journal lock.
func (f *File) beginAfresh() error {
	if f.data.blockSize == 0 {
		return fmt.Errorf("its journal is missing or damaged: %w", fs.ErrNotExist)
	}
	if lockedElsewhere(f.lock, lockHold) {
		return ErrInUse
	}
	var err error
	if f.data.f == nil {
		if f.data.f, err = f.s.files.open(string(f.key)+dataSuffix, unix.O_RDWR|unix.O_CREAT); err != nil {
			return full(err)
		}
	}
	f.j.data = f.data.f
	if err := f.data.f.Truncate(0); err != nil {
		return err
	}
	h := header{key: f.key, blockSize: f.data.blockSize, salt: randomSalt()}
	nf, err := f.s.files.replace(string(f.key)+journalSuffix, h.encode())
	if err != nil {
		return full(err)
	}
	if f.j.f != nil {
		f.j.f.Close()
	}
	f.j.f, f.j.h, f.j.pos, f.j.compactAt = nf, h, headerSize, minCompact
	return nil
}

// randomSalt is never zero, so that zeros never pass for a record.
func randomSalt() uint32 {
	var b [4]byte
	rand.Read(b[:]) // cannot fail: see crypto/rand
	return binary.LittleEndian.Uint32(b[:]) | 1
}
