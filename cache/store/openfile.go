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

// openFile opens the files of k. With blockSize 0 they must exist. On a read-only disk the lock file is
// opened for reading, so that shared locks can be had and exclusive ones cannot.
func (s *Store) openFile(k Key, blockSize int) (_ *File, err error) {
	f := newFile(s, k, blockSize)
	defer func() {
		if err != nil {
			f.shut()
		}
	}()
	if blockSize == 0 || s.readOnly {
		if _, err := s.files.StatOf(string(k) + journalSuffix); err != nil {
			return nil, err
		}
	}
	lock, err := s.files.lockOpen(k, s.mode, &s.others)
	if err != nil {
		return nil, err
	}
	setLock(f, lock)
	if err = f.j.shutOut(); errors.Is(err, ErrBusy) {
		f.j.mu.Lock()
		defer f.j.mu.Unlock()
		return f, loadBeside(f, err)
	} else if err != nil {
		return nil, err
	}
	defer f.j.mu.Unlock()
	defer unlock(f.lock, lockJournal)
	return f, load(f)
}

// lockOpen opens the lock file of k and says that the file is open.
func (d filesDir) lockOpen(k Key, mode int, others *patience) (*os.File, error) {
	if mode != unix.O_RDONLY {
		mode |= unix.O_CREAT
	}
	for {
		lock, err := d.OpenFile(string(k)+lockSuffix, mode)
		if err != nil {
			return nil, full(err)
		}
		err = others.lock(lock, unix.F_RDLCK, lockOpen)
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
func load(f *File) error {
	err := readJournal(f)
	switch {
	case errors.Is(err, errHeader):
		f.s.log.Warn("cached file starts afresh", "file", f.key, "err", err)
		return beginAfresh(f)
	case errors.Is(err, errMissing):
		return beginAfresh(f)
	case err != nil:
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

// loadBeside is load beside a process that has the journal lock and has stopped: nothing is changed, and what that
// process has left unfinished is not believed. The error is busy if there is anything of that. The caller holds j.mu.
func loadBeside(f *File, busy error) error {
	if err := readJournal(f); err != nil {
		return busy
	}
	if st, err := fstat(f.data.f); err != nil || f.present.knownSize() != Unknown && f.present.knownSize() != st.Size {
		return busy
	}
	return nil
}

// errMissing: a file lacks its journal or its data.
var errMissing = errors.New("incomplete")

// readJournal opens the files and takes in what the journal says. The caller holds j.mu.
func readJournal(f *File) (err error) {
	for suffix, file := range map[string]**os.File{journalSuffix: &f.j.f, dataSuffix: &f.data.f} {
		if *file, err = f.s.files.OpenFile(string(f.key)+suffix, f.s.mode); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if f.j.f == nil || f.data.f == nil {
		return errMissing
	}
	h, err := readHeader(f.j.f, f.key)
	if err != nil {
		return err
	}
	f.data.blockSize, f.j.data = h.blockSize, f.data.f
	m, err := f.j.readAll(f.j.f, h)
	if err == nil {
		f.present.replace(m)
	}
	return err
}

// beginAfresh makes the file anew: whatever bytes are there, nothing says what they are. The caller
// holds the journal lock.
func beginAfresh(f *File) error {
	if f.data.blockSize == 0 || f.s.readOnly {
		return fmt.Errorf("its journal is missing or damaged: %w", fs.ErrNotExist)
	}
	if lockedElsewhere(f.lock, lockHold) {
		return ErrInUse
	}
	var err error
	if f.data.f == nil {
		if f.data.f, err = f.s.files.OpenFile(string(f.key)+dataSuffix, unix.O_RDWR|unix.O_CREAT); err != nil {
			return full(err)
		}
	}
	f.j.data = f.data.f
	if err := f.data.f.Truncate(0); err != nil {
		return err
	}
	h := header{key: f.key, blockSize: f.data.blockSize, salt: randomSalt()}
	nf, err := f.s.files.Replace(string(f.key)+journalSuffix, h.encode())
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
