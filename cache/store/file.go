package store

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	dataSuffix    = ".data"
	journalSuffix = ".journal"
	lockSuffix    = ".lock"

	// pollEvery is how often, at most, a miss looks at what other processes have journalled.
	pollEvery = 10 * time.Millisecond
)

// File is one cached file. All methods may be called concurrently. Blocks are numbered from 0; all but the last have
// the length BlockSize. Out of range, a block is absent.
type File struct {
	s         *Store
	key       Key
	blockSize int
	lock      *os.File
	data      *os.File
	loose     atomic.Pointer[error] // why the disk has no place for it; nil: it has, from then on. Set to nil under mu. See looseFile
	j         journal

	polled   atomic.Int64 // when other processes' records were last looked for, ns
	touched  atomic.Bool  // used since the last tick
	lastUse  atomic.Int64 // ns, to the tick
	sizeOnce atomic.Int64 // the size once it is known, plus one: it never changes, so it needs no lock

	// mu guards what follows. It is held for memory and the odd fcntl, never over file IO, and is the last in the
	// lock order.
	mu      sync.RWMutex
	im      *image
	dirty   map[int64]uint64 // blocks that are present here and not journalled yet: the batch they wait for
	batch   uint64
	unsaved bool // the size could not be journalled yet
	claims  map[int64]*claim
	pins    int
	held    *os.File // what Data gave out
}

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

// Close gives the file back; the last Close in this process journals what is left. Call it once for each File.
func (f *File) Close() error { return f.s.release(f) }

// shut closes the descriptors, which ends all locks and claims.
func (f *File) shut() error {
	f.j.mu.Lock()
	defer f.j.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.claims {
		c.end()
	}
	f.claims = map[int64]*claim{}
	var errs []error
	for _, x := range []*os.File{f.held, f.data, f.j.f, f.lock} {
		if x != nil {
			errs = append(errs, x.Close())
		}
	}
	return errors.Join(errs...)
}

// Key is the name the file was opened by.
func (f *File) Key() Key { return f.key }

// BlockSize is in bytes.
func (f *File) BlockSize() int { return f.blockSize }

// Size is the length of the file in bytes, or [Unknown].
func (f *File) Size() int64 {
	if n := f.sizeOnce.Load(); n > 0 {
		return n - 1
	}
	f.poll()
	return f.sizeOnce.Load() - 1
}

// Blocks is the number of blocks the file has, or [Unknown].
func (f *File) Blocks() int64 {
	if n := f.Size(); n != Unknown {
		return blocksOf(n, f.blockSize)
	}
	return Unknown
}

// SetSize makes the size known, for this process and all others. It may be repeated with the same size; another one
// is refused with [ErrGeometry]. Blocks behind the end are forgotten.
func (f *File) SetSize(n int64) error {
	if err := checkSize(n, f.blockSize); err != nil {
		return err
	}
	if f.sizeOnce.Load() == n+1 {
		return nil
	}
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	f.mu.Lock()
	have := f.im.size
	if have == Unknown {
		f.im.setSize(n)
		f.unsaved = true
		for b := range f.dirty {
			if b >= f.im.end() {
				f.clean(b)
			}
		}
	}
	f.mu.Unlock()
	if have != Unknown && have != n {
		return fmt.Errorf("set size %d of cached file %.12s: it has %d: %w", n, string(f.key), have, ErrGeometry)
	}
	if have == n {
		return nil
	}
	f.sizeOnce.Store(n + 1)
	if err := f.fitData(); err != nil {
		return fmt.Errorf("set size of cached file: %w", err)
	}
	if err := f.append(appendRecord(nil, f.j.h.salt, record{kind: kindSize, pos: n})); err != nil {
		// The next flush tries again: a full disk is no reason to refuse the file.
		f.s.warn("cannot journal the size of a cached file", "file", f.key, "err", err)
		return nil
	}
	f.mu.Lock()
	f.unsaved = false
	f.mu.Unlock()
	return sync1(f.j.f)
}

// State says what is known of the whole.
func (f *File) State() FileState {
	f.poll()
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.state
}

// Note is the text given with the state, at most 1024 bytes: a reason, or what the sums were.
func (f *File) Note() string {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.note
}

// SetState records what was found out about the whole; it is on the disk when SetState returns. Verified is refused
// with [ErrAbsent] unless every block is present. Corrupt gives up all blocks.
func (f *File) SetState(st FileState, note string) error {
	if st > Corrupt {
		return fmt.Errorf("set state of cached file: %v is none", st)
	}
	if err := f.flush(); err != nil {
		return err
	}
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	f.mu.RLock()
	complete, end := f.im.complete(), f.im.end()
	f.mu.RUnlock()
	if st == Verified && !complete {
		return fmt.Errorf("set state of cached file %.12s to verified: %w", string(f.key), ErrAbsent)
	}
	r := stateRecord(st, note)
	buf := appendRecord(nil, f.j.h.salt, r)
	if st == Corrupt && end > 0 && f.tryHold() {
		defer f.endHold()
		if err := f.data.Truncate(0); err != nil {
			return fmt.Errorf("give up corrupt file: %w", err)
		}
		if f.sizeOnce.Load() > 0 {
			if err := f.fitData(); err != nil {
				return fmt.Errorf("give up corrupt file: %w", err)
			}
		}
		d := record{kind: kindDrop, value: uint32(end)}
		buf = append(appendRecord(nil, f.j.h.salt, d), buf...)
		f.applyAll([]record{d})
	}
	f.applyAll([]record{r})
	if err := f.append(buf); err != nil {
		return fmt.Errorf("set state of cached file: %w", full(err))
	}
	return sync1(f.j.f)
}

// Data is the file's content for the kernel to read by itself, or nil unless the file is complete and Verified. From
// then on, until the last Close, no process takes a block away. The caller does not close it.
func (f *File) Data() *os.File {
	f.mu.RLock()
	held := f.held
	f.mu.RUnlock()
	if held != nil {
		// Opening for passthrough fails where opening this fails: on a disk that has died since.
		again, err := f.s.files.open(string(f.key)+dataSuffix, unix.O_RDONLY)
		if err != nil {
			return nil
		}
		again.Close()
		return held
	}
	done, err := f.lockJournal()
	if err != nil {
		return nil
	}
	defer done()
	f.mu.RLock()
	held, whole := f.held, f.im.state == Verified && f.im.complete() && f.loose.Load() == nil
	f.mu.RUnlock()
	if held != nil || !whole {
		return held
	}
	if ok, err := tryLock(f.lock, unix.F_RDLCK, lockHold); !ok || err != nil {
		return nil
	}
	ro, err := f.s.files.open(string(f.key)+dataSuffix, unix.O_RDONLY)
	if err != nil {
		unlock(f.lock, lockHold)
		return nil
	}
	f.mu.Lock()
	f.held = ro
	f.mu.Unlock()
	return ro
}

// tryHold begins a change that a kernel reading the data file must not see; false if one does. The caller holds j.mu.
func (f *File) tryHold() bool {
	f.mu.RLock()
	held := f.held != nil
	f.mu.RUnlock()
	if held {
		return false
	}
	ok, err := tryLock(f.lock, unix.F_WRLCK, lockHold)
	return ok && err == nil
}

func (f *File) endHold() { unlock(f.lock, lockHold) }

// Pin says that the file is in use (a guest has it open), which protects it in the order of eviction: see the package
// documentation. Each Pin needs an Unpin.
func (f *File) Pin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pins++; f.pins == 1 {
		// Nobody locks this byte exclusively; failing to lock it only weakens the protection.
		_, _ = tryLock(f.lock, unix.F_RDLCK, lockPin)
	}
}

func (f *File) Unpin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.pins--; f.pins == 0 {
		unlock(f.lock, lockPin)
	}
}

// full marks errors of a disk that takes no more as ErrFull, and of one that fails as ErrFailing.
func full(err error) error {
	for e, as := range map[unix.Errno]error{
		unix.ENOSPC: ErrFull, unix.EDQUOT: ErrFull, unix.EFBIG: ErrFull,
		unix.EIO: ErrFailing, unix.EROFS: ErrFailing,
	} {
		if errors.Is(err, e) && !errors.Is(err, ErrFull) {
			return fmt.Errorf("%w: %w", as, err)
		}
	}
	return err
}

// control runs a system call on a file that another goroutine may be closing.
func control(f *os.File, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		for {
			if inner = call(int(fd)); inner != unix.EINTR {
				return
			}
		}
	})
	return errors.Join(err, inner)
}

func sync1(f *os.File) error { return control(f, unix.Fdatasync) }

// randomSalt is never zero, so that zeros never pass for a record.
func randomSalt() uint32 {
	var b [4]byte
	rand.Read(b[:]) // cannot fail: see crypto/rand
	return binary.LittleEndian.Uint32(b[:]) | 1
}
