package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// looseFile is a File for which the disk has no place: it is full, broken, read-only or deleted, or it has
// something of another user where the file should be. The loose file lies in anonymous memory and takes no
// data but zeros, so that its user works uncached. It ends when settler finds a place for it, or with its
// last Close.
func (s *Store) looseFile(k Key, blockSize int, cause error) (*File, error) {
	switch {
	case s.readOnly && errors.Is(cause, fs.ErrNotExist):
		cause = errReadOnly
	case errors.Is(cause, fs.ErrNotExist):
		// It would have been made: what is missing is the directory.
		cause = fmt.Errorf("%w: cache directory %s was removed while it was in use", errRemoved, s.top.File.Name())
	}
	if !errors.Is(cause, ErrFull) {
		cause = fmt.Errorf("%w: %w", ErrFull, cause)
	}
	f := newFile(s, k, blockSize)
	f.loose.Store(&cause)
	h := header{key: k, blockSize: blockSize, salt: randomSalt()}
	var memory [3]*os.File // named as what they become in settle
	for i, suffix := range []string{lockSuffix, dataSuffix, journalSuffix} {
		fd, err := unix.MemfdCreate("vmcastfs", unix.MFD_CLOEXEC)
		if err != nil {
			for _, m := range memory[:i] {
				m.Close()
			}
			return nil, fmt.Errorf("%w; and no memory in its place: %w", cause, err)
		}
		memory[i] = os.NewFile(uintptr(fd), s.files.Path(string(k)+suffix))
	}
	setLock(f, memory[0])
	f.data.f, f.j.data, f.j.f = memory[1], memory[1], memory[2]
	if _, err := f.j.f.WriteAt(h.encode(), 0); err != nil {
		f.shut()
		return nil, fmt.Errorf("%w; and no memory in its place: %w", cause, err)
	}
	f.j.h, f.j.pos, f.j.compactAt, f.j.nameless = h, headerSize, minCompact, true
	s.log.Warn("a file is not cached until its disk has a place for it", "file", k, "err", cause)
	return f, nil
}

// trimEvery is how often the limit and the floor are looked after without anyone writing.
const trimEvery = time.Minute

// settler looks now and then whether there is a place for a loose file by now: a guest may have it open for
// weeks. It also evicts what is too much, first of all what an earlier mount with a higher limit has left.
func (s *Store) settler() {
	tick := time.NewTicker(s.opt.settle)
	defer tick.Stop()
	trimmed := time.Now()
	for s.quota.trim(); ; {
		select {
		case <-s.stop:
			return
		case <-tick.C:
		}
		if time.Since(trimmed) >= trimEvery {
			s.quota.trim()
			trimmed = time.Now()
		}
		if err := s.renew(); err != nil {
			s.warn("the cache directory was removed and cannot be made again", "err", err)
		}
		for _, f := range s.openFiles() {
			if f.loose.Load() != nil && s.settle(f) == nil {
				s.log.Info("a file is cached again", "file", f.key)
			}
		}
	}
}

// renew makes the directory again if somebody has removed it under us. It does not do so on another
// filesystem: that of the cache may be unmounted just now.
func (s *Store) renew() error {
	was, err := fstat(s.files.File)
	if err != nil || was.Nlink > 0 {
		return err
	}
	to := &Store{opt: s.opt, log: s.log}
	defer to.closeDirs()
	if to.top, err = openDir(s.opt.Dir); err != nil {
		return err
	}
	if is, err := fstat(to.top.File); err != nil || is.Dev != was.Dev {
		return err
	}
	if err := to.setup(); err != nil {
		return err
	}
	s.quota.mu.Lock() // for what is locked in the lock file
	defer s.quota.mu.Unlock()
	for _, x := range [][2]*os.File{{s.lock, to.lock}, {s.root.File, to.root.File}, {s.files.File, to.files.File}, {s.top.File, to.top.File}} {
		if err := become(x[0], x[1]); err != nil {
			return err
		}
	}
	s.log.Warn("the cache directory was removed while it was in use; it is made again", "dir", s.opt.Dir)
	return nil
}

// settle puts the files of the disk in place of the memory of a loose one. The zeros that it had are
// forgotten, as in an eviction: nothing has seen to it that they are zeros on the disk.
func (s *Store) settle(f *File) error {
	to, err := s.openFile(f.key, f.data.blockSize)
	if err != nil {
		return err
	}
	defer to.shut() // its locks belong to what is open, and stay with f
	if to.data.blockSize != f.data.blockSize {
		return ErrGeometry
	}
	if n := f.present.knownSize(); n != Unknown {
		if err := to.SetSize(n); err != nil {
			return err
		}
	}
	// Everyone who changes anything but zeros holds j.mu; of zeros, writeBlock sees that f is loose no more.
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	return f.present.become(to.present, func() error {
		for _, x := range [][2]*os.File{{f.lock, to.lock}, {f.data.f, to.data.f}, {f.j.f, to.j.f}} {
			if err := become(x[0], x[1]); err != nil {
				return err // closed: no other error is possible
			}
		}
		f.holds.moved()
		f.j.h, f.j.pos, f.j.damaged, f.j.compactAt, f.j.nameless = to.j.h, to.j.pos, to.j.damaged, to.j.compactAt, false
		f.loose.Store(nil)
		return nil
	})
}

// become makes f another name of what g has open. A call that uses f meanwhile uses the one or the other.
func become(f, g *os.File) error {
	return control(g, func(from int) error {
		return control(f, func(to int) error { return unix.Dup3(from, to, unix.O_CLOEXEC) })
	})
}
