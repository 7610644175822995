package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readChunk  = 256 << 10 // more than the longest record
	minCompact = 256 << 10 // a journal shorter than this is left as it is
)

// journal is the open journal of a File.
type journal struct {
	// mu guards the struct. It is held over IO on the journal and over waiting for the lock byte lockJournal, which is
	// taken after it. Order: quota.mu, Store.mu, journal.mu, lockJournal, lockHold, File.mu.
	mu        sync.Mutex
	f         *os.File
	h         header
	pos       int64 // end of the last record that is in the image
	damaged   bool  // there is something before pos that is not a record of this file
	compactAt int64 // look into compaction when pos gets here
}

func readHeader(r io.ReaderAt, key Key) (header, error) {
	b := make([]byte, headerSize)
	n, err := r.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return header{}, fmt.Errorf("read journal: %w", err)
	}
	return parseHeader(b[:n], key)
}

// replay reads records from pos up to size and hands them to apply in order. Slots that are no records are passed
// over; they count as damage only if a record follows, else they are an unfinished tail. It returns the end of the
// last record. The records are valid during apply only.
func replay(r io.ReaderAt, salt uint32, pos, size int64, apply func([]record)) (end int64, damaged bool, err error) {
	buf := make([]byte, min(readChunk, max(size-pos, 0)))
	var batch []record
	end = pos
	for at := pos; at < size; {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && !errors.Is(err, io.EOF) {
			return end, damaged, fmt.Errorf("read journal: %w", err)
		}
		batch = batch[:0]
		o := 0
	records:
		for {
			rec, length, p := parseRecord(salt, buf[o:n])
			switch p {
			case short:
				break records
			case bad:
				o += slotSize
			case good:
				if at+int64(o) != end {
					damaged = true
				}
				o += length
				end = at + int64(o)
				batch = append(batch, rec)
			}
		}
		apply(batch)
		if o == 0 {
			break // the rest is part of a record
		}
		at += int64(o)
	}
	return end, damaged, nil
}

// readTail brings im up to what the journal says now. The caller holds j.mu.
func (f *File) readTail(im *image, live bool) error {
	var st unix.Stat_t
	if err := control(f.j.f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if st.Nlink == 0 && f.loose.Load() == nil {
		return errReplaced
	}
	if st.Size <= f.j.pos {
		return nil
	}
	wrong := false
	end, damaged, err := replay(f.j.f, f.j.h.salt, f.j.pos, st.Size, func(rs []record) {
		if live {
			wrong = !f.applyAll(rs) || wrong
			return
		}
		for _, r := range rs {
			wrong = !im.apply(r, false) || wrong
		}
	})
	f.j.pos = end
	if damaged || wrong {
		f.j.damaged = true
	}
	return err
}

var errReplaced = errors.New("journal was replaced")

// applyAll replays records into the image in use, and reports whether all of them made sense.
func (f *File) applyAll(rs []record) bool {
	ok := true
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range rs {
		ok = f.im.apply(r, true) && ok
		switch r.kind {
		case kindDrop:
			for b := range f.dirty {
				if b >= r.pos && b-r.pos < int64(r.value) {
					f.clean(b)
				}
			}
		case kindSize:
			f.sizeOnce.Store(f.im.size + 1)
		}
	}
	return ok
}

// catchUp takes in what other processes have journalled. The caller holds j.mu; no lock on the disk is needed, as
// records are only ever appended, and a journal that was rewritten has lost its name.
func (f *File) catchUp() error {
	if f.j.f == nil {
		return os.ErrClosed
	}
	if err := f.readTail(f.im, true); err != errReplaced {
		return err
	}
	if err := f.stillNamed(); err != nil {
		return err
	}
	nf, err := f.s.files.open(string(f.key)+journalSuffix, unix.O_RDWR)
	if err != nil {
		return err
	}
	h, err := readHeader(nf, f.key)
	if err == nil && h.blockSize != f.blockSize {
		err = ErrGeometry
	}
	if err != nil {
		nf.Close()
		return err
	}
	f.j.f.Close()
	f.j.f, f.j.h, f.j.pos, f.j.damaged, f.j.compactAt = nf, h, headerSize, false, minCompact
	im := newImage(f.blockSize)
	if err := f.readTail(im, false); err != nil {
		f.j.pos = headerSize // from the start again next time
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if im.size == Unknown && f.im.size != Unknown {
		im.setSize(f.im.size)
	}
	for b := range f.dirty {
		if sum, zero, ok := f.im.get(b); ok && zero {
			im.setZeros(b, 1)
		} else if ok {
			im.set(b, sum)
		}
	}
	im.takeUse(&f.im.blockMap)
	f.im = im
	f.sizeOnce.Store(im.size + 1)
	return nil
}

// stillNamed tells whether the data file is the one that goes with a journal found by name. Who deletes files of the
// cache by hand takes ours away, and another process may have made the file anew.
func (f *File) stillNamed() error {
	named, err := f.s.files.stat(string(f.key) + dataSuffix)
	if err != nil {
		return err
	}
	var ours unix.Stat_t
	if err := control(f.data, func(fd int) error { return unix.Fstat(fd, &ours) }); err != nil {
		return err
	}
	if ours.Ino != named.Ino || ours.Dev != named.Dev {
		return errors.New("it was deleted, and made anew by another process")
	}
	return nil
}

// poll takes in other processes' records unless that was done a moment ago or is being done.
func (f *File) poll() {
	now := time.Now().UnixNano()
	last := f.polled.Load()
	if now-last < int64(pollEvery) || !f.polled.CompareAndSwap(last, now) || !f.j.mu.TryLock() {
		return
	}
	defer f.j.mu.Unlock()
	if err := f.catchUp(); err != nil && !errors.Is(err, os.ErrClosed) {
		f.s.warn("cannot read journal", "file", f.key, "err", err)
	}
}

// lockJournal begins a change of the journal: it shuts out everyone else, takes in what they wrote, and cuts off what
// one of them left unfinished.
func (f *File) lockJournal() (done func(), err error) {
	f.j.mu.Lock()
	if err := waitLock(f.lock, unix.F_WRLCK, lockJournal, lockPatience); err != nil {
		f.j.mu.Unlock()
		return nil, err
	}
	done = func() {
		unlock(f.lock, lockJournal)
		f.j.mu.Unlock()
	}
	err = f.catchUp()
	if err == nil {
		err = f.cutTail()
	}
	if err != nil {
		done()
		return nil, fmt.Errorf("journal of cached file %.12s: %w", string(f.key), err)
	}
	return done, nil
}

// cutTail removes an unfinished record. The caller holds the journal lock and has caught up.
func (f *File) cutTail() error {
	var st unix.Stat_t
	if err := control(f.j.f, func(fd int) error { return unix.Fstat(fd, &st) }); err != nil {
		return err
	}
	if st.Size <= f.j.pos {
		return nil
	}
	return f.j.f.Truncate(f.j.pos)
}

// append writes records that are in the image already. The caller holds the journal lock.
func (f *File) append(b []byte) error {
	n, err := f.j.f.WriteAt(b, f.j.pos)
	if err != nil {
		if n > 0 {
			_ = f.j.f.Truncate(f.j.pos) // else the next writer does it
		}
		return fmt.Errorf("append to journal: %w", err)
	}
	f.j.pos += int64(n)
	return nil
}

// tidy rewrites a journal that is damaged or has become twice as long as it need be. A whole whose journal was
// damaged counts as unchecked: the record that said otherwise may be the one that is lost. The caller holds the
// journal lock.
func (f *File) tidy() {
	if !f.j.damaged && f.j.pos < f.j.compactAt || f.loose.Load() != nil {
		return
	}
	h := f.j.h
	h.salt = randomSalt()
	f.mu.Lock()
	if f.j.damaged && f.im.state == Verified {
		f.im.state, f.im.note = Partial, ""
	}
	b := f.im.encode(h, f.dirty)
	f.mu.Unlock()
	if !f.j.damaged && 2*int64(len(b)) > f.j.pos {
		f.j.compactAt = 2 * f.j.pos
		return
	}
	if f.j.damaged {
		f.s.log.Warn("journal of a cached file was damaged; what it lost will be fetched again", "file", f.key)
	}
	nf, err := f.s.files.replace(string(f.key)+journalSuffix, b)
	if err != nil {
		f.j.compactAt = 2 * f.j.pos
		f.s.warn("cannot rewrite journal", "file", f.key, "err", err)
		return
	}
	f.j.f.Close()
	f.j.f, f.j.h, f.j.pos, f.j.damaged = nf, h, int64(len(b)), false
	f.j.compactAt = max(minCompact, 2*f.j.pos)
	f.mu.Lock()
	f.unsaved = false
	f.mu.Unlock()
}
