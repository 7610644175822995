package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Has reports whether block b is present. What another process journalled is seen within 10 ms of its being there.
func (f *File) Has(b int64) bool {
	_, _, _, ok := f.look(b, false)
	return ok
}

// look finds a block in memory; on a miss, also in what other processes have journalled since. use says that the
// block is wanted, which keeps it warm.
func (f *File) look(b int64, use bool) (sum uint32, zero bool, n int, ok bool) {
	if b < 0 {
		return
	}
	if sum, zero, n, ok = f.peek(b, use); !ok {
		f.poll()
		sum, zero, n, ok = f.peek(b, use)
	}
	return
}

func (f *File) peek(b int64, use bool) (sum uint32, zero bool, n int, ok bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if sum, zero, ok = f.im.get(b); ok {
		if use {
			f.im.use(b)
		}
		n = f.im.blockLen(b)
	}
	return
}

// ReadBlock reads block b into p, which has room for it, and returns its length. The bytes match the checksum they
// were written with. Errors: [ErrAbsent]; [*DamagedError], which is an ErrAbsent too: the block was dropped.
// A read allocates nothing and waits for no write.
func (f *File) ReadBlock(b int64, p []byte) (int, error) {
	sum, zero, n, ok := f.look(b, true)
	if !ok {
		return 0, ErrAbsent
	}
	if len(p) < n {
		return 0, fmt.Errorf("read block %d: buffer of %d bytes for %d", b, len(p), n)
	}
	if !f.touched.Load() {
		f.touched.Store(true)
	}
	p = p[:n]
	if zero {
		clear(p)
		return n, nil
	}
	_, err := f.data.ReadAt(p, b*int64(f.blockSize))
	if err == nil && checksum(p) == sum {
		return n, nil
	}
	if errors.Is(err, os.ErrClosed) {
		return 0, err
	}
	return f.rereadBlock(b, p)
}

// rereadBlock decides about a block that did not match: it may have been evicted, and perhaps written again, since it
// was looked up. Nobody punches holes while this process has the journal.
func (f *File) rereadBlock(b int64, p []byte) (int, error) {
	damage := &DamagedError{Key: f.key, Block: b}
	done, err := f.lockJournal()
	if err != nil {
		damage.Err = err
		f.applyAll([]record{{kind: kindDrop, pos: b, value: 1}})
		return 0, damage
	}
	defer done()
	sum, zero, n, ok := f.peek(b, true)
	if !ok {
		return 0, ErrAbsent
	}
	if zero {
		clear(p[:n])
		return n, nil
	}
	_, damage.Err = f.data.ReadAt(p[:n], b*int64(f.blockSize))
	if damage.Err == nil {
		damage.Want, damage.Got = sum, checksum(p[:n])
		if damage.Got == sum {
			return n, nil
		}
	}
	f.s.damaged.Add(1)
	f.s.warn("damaged block in the cache is dropped", "file", f.key, "block", b, "err", damage)
	if err := f.dropLocked(b, 1); err != nil {
		f.s.warn("cannot drop damaged block", "file", f.key, "block", b, "err", err)
	}
	return 0, damage
}

// WriteBlock puts block b into the cache: p is exactly the block. It is present in this process when WriteBlock
// returns, and durable and visible to other processes at most SyncEvery later. Writing a present block does nothing;
// those who write one block at the same time must have the same bytes. While the size is unknown only whole blocks
// can be written. A block of zeros takes no disk. [ErrFull] means that the limit or the disk refuses the block, also
// after making room was tried; then the block stays absent.
func (f *File) WriteBlock(b int64, p []byte) error { return f.writeBlock(b, p, nil, 0) }

// writeBlock writes p, or shares the disk space of block at of another file that has these bytes.
func (f *File) writeBlock(b int64, p []byte, from *File, at int64) error {
	f.mu.RLock()
	_, _, ok := f.im.get(max(b, 0))
	in := b >= 0 && b < f.im.end()
	n := f.im.blockLen(b)
	f.mu.RUnlock()
	if !in || len(p) != n {
		return fmt.Errorf("write block %d of cached file %.12s: %d bytes do not fit", b, string(f.key), len(p))
	}
	if ok {
		return nil
	}
	zero := isZero(p)
	loose := f.loose.Load()
	if loose != nil && !zero {
		return f.refuse(b, *loose)
	}
	var sum uint32
	if zero {
		if err := f.clearData(b, 1); err != nil {
			return f.refuse(b, err)
		}
	} else {
		sum = checksum(p)
		if err := f.writeData(b, p, from, at); err != nil {
			return f.refuse(b, err)
		}
		if f.s.refusing.Load() {
			f.s.refusing.Store(false)
		}
	}
	f.mu.Lock()
	if f.loose.Load() != loose { // it has got its place meanwhile, and nothing was done there
		f.mu.Unlock()
		return f.writeBlock(b, p, from, at)
	}
	if zero {
		f.im.setZeros(b, 1)
	} else {
		f.im.set(b, sum)
	}
	f.im.use(b)
	f.dirty[b] = f.batch
	f.mu.Unlock()
	f.touched.Store(true)
	f.s.wake()
	return nil
}

// refuse turns what a disk answers into ErrFull.
func (f *File) refuse(b int64, err error) error {
	err = fmt.Errorf("write block %d of cached file %.12s: %w", b, string(f.key), full(err))
	if errors.Is(err, ErrFull) {
		f.s.full.Add(1)
		f.s.refusal.Store(&refusal{time.Now(), why(err), errors.Is(err, ErrFailing)})
		f.s.refusing.Store(true)
		f.s.warn("block is not cached", "err", err)
	}
	return err
}

func (f *File) writeData(b int64, p []byte, from *File, at int64) error {
	q := &f.s.quota
	n := roundUp(int64(len(p)))
	if err := f.s.reserve(n); err != nil {
		return err
	}
	if from != nil && f.clone(b, len(p), from, at) {
		q.written.Add(n)
		return nil
	}
	_, err := f.data.WriteAt(p, b*int64(f.blockSize))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if f.s.makeRoom(n) {
			_, err = f.data.WriteAt(p, b*int64(f.blockSize))
		}
	}
	if err != nil {
		q.reserved.Add(-n) // what little was written is overwritten by the next attempt
		return err
	}
	q.written.Add(n)
	return nil
}

// clearData makes sure that absent blocks read as zeros: leftovers of a crash may be there.
func (f *File) clearData(b, n int64) error {
	from, to := b*int64(f.blockSize), (b+n)*int64(f.blockSize)
	var at int64
	err := control(f.data, func(fd int) (err error) {
		at, err = unix.Seek(fd, from, unix.SEEK_DATA)
		return err
	})
	if errors.Is(err, unix.ENXIO) || err == nil && at >= to {
		return nil
	}
	if err := f.punch(b, n); err == nil {
		return nil
	}
	f.mu.RLock()
	size := f.im.size
	f.mu.RUnlock()
	if size != Unknown {
		to = min(to, size)
	}
	zeros := make([]byte, f.blockSize)
	for ; from < to; from += int64(len(zeros)) {
		if _, err := f.data.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from); err != nil {
			return err
		}
	}
	return nil
}

// WriteZeros marks the n blocks from b as zeros, as far as they are absent, without anyone having fetched them. It is
// on the disk when WriteZeros returns.
func (f *File) WriteZeros(b, n int64) error {
	f.mu.RLock()
	in := b >= 0 && n >= 0 && b <= f.im.end() && n <= f.im.end()-b
	f.mu.RUnlock()
	if !in {
		return fmt.Errorf("mark %d blocks from %d as zeros: out of range", n, b)
	}
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	var buf []byte
	for at, end := b, b+n; at < end; {
		f.mu.RLock()
		at = f.im.nextMissing(at, end)
		to := min(f.im.nextPresent(at, end), at+maxZeros)
		f.mu.RUnlock()
		if at == end {
			break
		}
		if err := f.clearData(at, to-at); err != nil {
			return f.refuse(at, err)
		}
		r := record{kind: kindZeros, pos: at, value: uint32(to - at)}
		f.applyAll([]record{r})
		buf = appendRecord(buf, f.j.h.salt, r)
		at = to
	}
	if len(buf) == 0 {
		return nil
	}
	if err := f.append(buf); err != nil {
		return f.refuse(b, err)
	}
	return sync1(f.j.f)
}

// Drop makes block b absent, in all processes.
func (f *File) Drop(b int64) error {
	done, err := f.lockJournal()
	if err != nil {
		return err
	}
	defer done()
	f.mu.RLock()
	_, _, ok := f.im.get(max(b, 0))
	f.mu.RUnlock()
	if !ok || b < 0 {
		return nil
	}
	if err := f.dropLocked(b, 1); err != nil {
		return fmt.Errorf("drop block %d: %w", b, err)
	}
	return nil
}

// dropLocked punches blocks out, journals that, and only then shows it: nobody writes a block that is still to be
// punched. The caller holds the journal lock.
func (f *File) dropLocked(b, n int64) error {
	if f.tryHold() {
		_ = f.punch(b, n) // the space is lost, or a checksum catches it
		f.endHold()
	}
	r := record{kind: kindDrop, pos: b, value: uint32(n)}
	err := f.append(appendRecord(nil, f.j.h.salt, r))
	f.applyAll([]record{r})
	return err
}

func (f *File) punch(b, n int64) error {
	return control(f.data, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, b*int64(f.blockSize), n*int64(f.blockSize))
	})
}

func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

func roundUp(n int64) int64 { return (n + 4095) &^ 4095 }
