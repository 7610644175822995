package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Has reports whether block b is present. What another process journalled is seen within 10 ms.
func (f *File) Has(b int64) bool {
	if _, ok := f.present.peek(b); ok {
		return true
	}
	f.j.poll()
	_, ok := f.present.peek(b)
	return ok
}

// ReadBlock reads block b into p, which has room for it, and returns its length. The bytes match the
// checksum they were written with. Errors: [ErrAbsent]; [*DamagedError], which is an ErrAbsent too: the
// block was dropped. A read allocates nothing and waits for no write.
func (f *File) ReadBlock(b int64, p []byte) (int, error) {
	x, ok := f.present.use(b)
	if !ok {
		f.j.poll()
		if x, ok = f.present.use(b); !ok {
			return 0, ErrAbsent
		}
	}
	if len(p) < x.n {
		return 0, fmt.Errorf("read block %d: buffer of %d bytes for %d", b, len(p), x.n)
	}
	if !f.touched.Load() {
		f.touched.Store(true)
	}
	p = p[:x.n]
	if x.zero {
		clear(p)
		return x.n, nil
	}
	_, err := f.data.f.ReadAt(p, f.data.offset(b))
	if err == nil && checksum(p) == x.sum {
		return x.n, nil
	}
	if errors.Is(err, os.ErrClosed) {
		return 0, err
	}
	return f.rereadBlock(b, p)
}

// rereadBlock decides about a block that did not match: it may have been evicted, and perhaps written
// again, since it was looked up. Nobody punches holes while this process has the journal.
func (f *File) rereadBlock(b int64, p []byte) (int, error) {
	damage := &DamagedError{Key: f.key, Block: b}
	done, err := f.j.begin()
	if err != nil {
		damage.Err = err
		f.present.applyAll([]record{{kind: kindDrop, pos: b, value: 1}})
		return 0, damage
	}
	defer done()
	x, ok := f.present.use(b)
	if !ok {
		return 0, ErrAbsent
	}
	if x.zero {
		clear(p[:x.n])
		return x.n, nil
	}
	_, damage.Err = f.data.f.ReadAt(p[:x.n], f.data.offset(b))
	if damage.Err == nil {
		damage.Want, damage.Got = x.sum, checksum(p[:x.n])
		if damage.Got == x.sum {
			return x.n, nil
		}
	}
	f.s.damaged.Add(1)
	f.s.warn("damaged block in the cache is dropped", "file", f.key, "block", b, "err", damage)
	if err := f.drop(b, 1); err != nil {
		f.s.warn("cannot drop damaged block", "file", f.key, "block", b, "err", err)
	}
	return 0, damage
}

// WriteBlock puts block b into the cache: p is exactly the block. It is present in this process when
// WriteBlock returns, and durable and visible to other processes at most SyncEvery later. Writing a
// present block does nothing. Callers that write one block at the same time must have the same bytes.
// While the size is unknown only whole blocks can be written. A block of zeros takes no disk. [ErrFull]
// means that the limit or the disk refuses the block, also after making room was tried; the block stays
// absent then.
func (f *File) WriteBlock(b int64, p []byte) error { return f.writeBlock(b, p, place{}) }

// WriteCopy is WriteBlock for bytes that ReadBlock gave of block at of another file of the same store,
// or of this one. Where the filesystem can, both blocks share one place on the disk.
func (f *File) WriteCopy(b int64, p []byte, from *File, at int64) error {
	return f.writeBlock(b, p, place{from, at})
}

// place is a block of a file that has the same bytes; without a file there is none.
type place struct {
	file *File
	b    int64
}

func (f *File) writeBlock(b int64, p []byte, same place) error {
	if n, in := f.present.slot(b); !in || len(p) != n {
		return fmt.Errorf("write block %d of cached file %.12s: %d bytes do not fit", b, string(f.key), len(p))
	}
	if _, ok := f.present.peek(b); ok {
		return nil
	}
	x := block{zero: isZero(p)}
	loose := f.loose.Load()
	switch {
	case f.s.readOnly && !x.zero:
		return f.refuse(b, errReadOnly)
	case loose != nil && !x.zero:
		return f.refuse(b, *loose)
	case x.zero:
		if err := f.data.clear(b, 1, f.present.knownSize()); err != nil {
			return f.refuse(b, err)
		}
	default:
		x.sum = checksum(p)
		if err := f.writeData(b, p, same); err != nil {
			return f.refuse(b, err)
		}
		if f.s.refusing.Load() {
			f.s.refusing.Store(false)
		}
	}
	if !f.present.wrote(b, x, func() bool { return f.loose.Load() != loose }) {
		return f.writeBlock(b, p, same) // the file has got its place meanwhile, and nothing was done there
	}
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

// writeData writes a block, or lets it share the disk space of one that has the same bytes.
func (f *File) writeData(b int64, p []byte, same place) error {
	q := &f.s.quota
	n := roundUp(int64(len(p)))
	if err := q.reserve(n); err != nil {
		return err
	}
	if same.file != nil && clone(f, b, len(p), same) {
		q.written.Add(n)
		return nil
	}
	_, err := f.data.f.WriteAt(p, f.data.offset(b))
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		if q.makeRoom(n) {
			_, err = f.data.f.WriteAt(p, f.data.offset(b))
		}
	}
	if err != nil {
		q.reserved.Add(-n) // what little was written is overwritten by the next attempt
		return err
	}
	q.written.Add(n)
	return nil
}

// clone shares n bytes of another block with block b of f, or reports that it cannot. Room has been reserved.
func clone(f *File, b int64, n int, from place) bool {
	if f.s.noClone.Load() || n%4096 != 0 || f == from.file && b == from.b {
		return false
	}
	// While we have its journal nobody punches a hole into what is shared.
	done, err := from.file.j.begin()
	if err != nil {
		return false
	}
	defer done()
	if x, ok := from.file.present.peek(from.b); !ok || x.n != n {
		return false
	}
	err = f.data.share(b, n, from.file.data, from.b)
	for _, never := range []error{unix.EOPNOTSUPP, unix.ENOTTY, unix.EXDEV, unix.ENOSYS, unix.EPERM} {
		if errors.Is(err, never) {
			f.s.noClone.Store(true) // of all files: they lie in one directory
		}
	}
	return err == nil
}

// WriteZeros marks the n blocks from b as zeros, as far as they are absent, without anyone having
// fetched them. It is on the disk when WriteZeros returns.
func (f *File) WriteZeros(b, n int64) error {
	if end := f.present.blocks(); b < 0 || n < 0 || b > end || n > end-b {
		return fmt.Errorf("mark %d blocks from %d as zeros: out of range", n, b)
	}
	done, err := f.j.begin()
	if err != nil {
		return err
	}
	defer done()
	var buf []byte
	for at, end := b, b+n; ; {
		if at = f.present.nextMissing(at); at >= end {
			break
		}
		to := min(f.present.nextPresent(at), end, at+maxZeros)
		if err := f.data.clear(at, to-at, f.present.knownSize()); err != nil {
			return f.refuse(at, err)
		}
		r := record{kind: kindZeros, pos: at, value: uint32(to - at)}
		f.present.applyAll([]record{r})
		buf = appendRecord(buf, f.j.h.salt, r)
		at = to
	}
	if len(buf) == 0 {
		return nil
	}
	if err := f.j.append(buf); err != nil {
		return f.refuse(b, err)
	}
	return dataSync(f.j.f)
}

// drop makes the n blocks from b on absent, in all processes: it punches the hole, journals that, and
// only then shows it. So nobody writes a block that is still to be punched. The caller holds the journal
// lock.
func (f *File) drop(b, n int64) error {
	if f.holds.tryPunch() {
		_ = f.data.punch(b, n) // the space is lost, or a checksum catches it
		f.holds.endPunch()
	}
	r := record{kind: kindDrop, pos: b, value: uint32(n)}
	err := f.j.append(appendRecord(nil, f.j.h.salt, r))
	f.present.applyAll([]record{r})
	return err
}

func isZero(p []byte) bool {
	return len(p) == 0 || p[0] == 0 && bytes.Equal(p[1:], p[:len(p)-1])
}

func roundUp(n int64) int64 { return (n + 4095) &^ 4095 }
