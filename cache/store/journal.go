package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

const (
	readChunk  = 256 << 10 // more than the longest record
	minCompact = 256 << 10 // a journal shorter than this is left as it is
)

// pollEvery is how often, at most, a miss looks at what other processes have journalled.
const pollEvery = 10 * time.Millisecond

// journal is the journal of one open file: what it says goes into presence.
type journal struct {
	files   privdir.Dir
	key     Key
	lock    *os.File // byte lockJournal of it; set before the first use
	data    *os.File // the file that goes with it; set before the first use
	present *presence
	warn    func(msg string, args ...any)
	others  *patience
	polled  atomic.Int64 // when other processes' records were last looked for, ns

	mode     int  // O_RDWR or O_RDONLY
	readOnly bool // what is begun, appended or tidied stays in memory

	// mu guards what follows. It is held over IO on the journal, and not over the wait for the lock byte
	// lockJournal, which is taken after it. Then come lockHold and presence.mu.
	mu        sync.Mutex
	f         *os.File // guarded by mu; nil before load and after an open that failed
	h         header   // guarded by mu
	pos       int64    // guarded by mu; end of the last record that is in presence
	damaged   bool     // guarded by mu; there is something before pos that is not a record of this file
	compactAt int64    // guarded by mu; look into rewriting when pos gets here
	nameless  bool     // guarded by mu; it lies in anonymous memory, see looseFile
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

// readTail hands all records since pos to apply, which reports whether they made sense. The caller holds mu.
func (j *journal) readTail(apply func([]record) bool) error {
	st, err := fstat(j.f)
	if err != nil {
		return err
	}
	if st.Nlink == 0 && !j.nameless {
		return errReplaced
	}
	if st.Size <= j.pos {
		return nil
	}
	wrong := false
	end, damaged, err := replay(j.f, j.h.salt, j.pos, st.Size, func(rs []record) { wrong = !apply(rs) || wrong })
	j.pos = end
	j.damaged = j.damaged || damaged || wrong
	return err
}

var errReplaced = errors.New("journal was replaced")

// readAll reads a journal that has just been opened. The caller holds mu.
func (j *journal) readAll(f *os.File, h header) (*mapping, error) {
	j.f, j.h, j.pos, j.damaged, j.compactAt = f, h, headerSize, false, minCompact
	m := newMapping(h.blockSize)
	err := j.readTail(func(rs []record) bool {
		ok := true
		for _, r := range rs {
			ok = m.apply(r) && ok
		}
		return ok
	})
	if err != nil {
		j.pos = headerSize // from the start again next time
	}
	return m, err
}

// catchUp takes in what other processes have journalled. It needs no lock on the disk: records are only
// ever appended, and a journal that was rewritten has lost its name. The caller holds mu.
func (j *journal) catchUp() error {
	if j.f == nil {
		return os.ErrClosed
	}
	if err := j.readTail(j.present.applyAll); err != errReplaced {
		return err
	}
	if err := j.stillNamed(); err != nil {
		return err
	}
	nf, err := j.files.OpenFile(string(j.key)+journalSuffix, j.mode)
	if err != nil {
		return err
	}
	h, err := readHeader(nf, j.key)
	if err == nil && h.blockSize != j.h.blockSize {
		err = ErrGeometry
	}
	if err != nil {
		nf.Close()
		return err
	}
	j.f.Close()
	m, err := j.readAll(nf, h)
	if err != nil {
		return err
	}
	j.present.replace(m)
	return nil
}

// stillNamed tells whether the data file is the one that goes with a journal found by name. A user who
// deletes files of the cache by hand takes ours away, and another process may have made the file anew.
func (j *journal) stillNamed() error {
	named, err := j.files.StatOf(string(j.key) + dataSuffix)
	if err != nil {
		return err
	}
	ours, err := fstat(j.data)
	if err != nil {
		return err
	}
	if ours.Ino != named.Ino || ours.Dev != named.Dev {
		return errors.New("it was deleted, and made anew by another process")
	}
	return nil
}

// poll takes in other processes' records unless that was done a moment ago or is being done.
func (j *journal) poll() {
	now := time.Now().UnixNano()
	last := j.polled.Load()
	if now-last < int64(pollEvery) || !j.polled.CompareAndSwap(last, now) || !j.mu.TryLock() {
		return
	}
	defer j.mu.Unlock()
	j.takeIn()
}

// refresh takes in other processes' records now.
func (j *journal) refresh() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.takeIn()
}

// takeIn is catchUp, whose failure goes to the log. The caller holds mu.
func (j *journal) takeIn() {
	if err := j.catchUp(); err != nil && !errors.Is(err, os.ErrClosed) {
		j.warn("cannot read journal", "file", j.key, "err", err)
	}
}

// begin begins a change of the journal: it shuts out everyone else, takes in what they wrote, and cuts
// off what one of them left unfinished. Until done the caller holds the journal lock, which is mu and
// the lock byte.
func (j *journal) begin() (done func(), err error) {
	if err := j.shutOut(); err != nil {
		return nil, err
	}
	done = func() {
		unlock(j.lock, lockJournal)
		j.mu.Unlock()
	}
	err = j.catchUp()
	if err == nil {
		err = j.cutTail()
	}
	if err != nil {
		done()
		return nil, fmt.Errorf("journal of cached file %.12s: %w", string(j.key), err)
	}
	return done, nil
}

// shutOut takes the journal lock. Whoever reads the journal need not wait for the other processes meanwhile.
func (j *journal) shutOut() error {
	return j.others.wait(j.lock, func() (ok bool, err error) {
		j.mu.Lock()
		if ok = j.readOnly; !ok {
			ok, err = tryLock(j.lock, unix.F_WRLCK, lockJournal)
		}
		if !ok {
			j.mu.Unlock()
		}
		return ok, err
	})
}

// cutTail removes an unfinished record. The caller holds the journal lock and has caught up.
func (j *journal) cutTail() error {
	if j.readOnly {
		return nil
	}
	st, err := fstat(j.f)
	if err != nil {
		return err
	}
	if st.Size <= j.pos {
		return nil
	}
	return j.f.Truncate(j.pos)
}

// append writes records. The caller holds the journal lock.
func (j *journal) append(b []byte) error {
	if j.readOnly {
		return nil
	}
	n, err := j.f.WriteAt(b, j.pos)
	if err != nil {
		if n > 0 {
			_ = j.f.Truncate(j.pos) // else the next writer does it
		}
		return fmt.Errorf("append to journal: %w", err)
	}
	j.pos += int64(n)
	return nil
}

// tidy rewrites a journal that is damaged or has become twice as long as it need be. A whole whose
// journal was damaged counts as unchecked: the record that said otherwise may be the one that is lost.
// The caller holds the journal lock.
func (j *journal) tidy() {
	if !j.damaged && j.pos < j.compactAt || j.nameless || j.readOnly {
		return
	}
	h := j.h
	h.salt = randomSalt()
	if j.damaged {
		j.present.uncheck()
	}
	b := j.present.encodeAll(h)
	if !j.damaged && 2*int64(len(b)) > j.pos {
		j.compactAt = 2 * j.pos
		return
	}
	if j.damaged {
		j.warn("journal of a cached file was damaged; what it lost will be fetched again", "file", j.key)
	}
	nf, err := j.files.Replace(string(j.key)+journalSuffix, b)
	if err != nil {
		j.compactAt = 2 * j.pos
		j.warn("cannot rewrite journal", "file", j.key, "err", err)
		return
	}
	j.f.Close()
	j.f, j.h, j.pos, j.damaged = nf, h, int64(len(b)), false
	j.compactAt = max(minCompact, 2*j.pos)
	j.present.sizeSaved()
}

// encodeAll gives the journal of all that is known and need not be journalled first.
func (p *presence) encodeAll(h header) []byte {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.encode(h, p.dirty)
}

// uncheck takes back that the file is verified.
func (p *presence) uncheck() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mapping.state == Verified {
		p.mapping.state, p.mapping.note = Partial, ""
	}
}
