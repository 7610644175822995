package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"vmcastfs/cache/store"
)

// Joined is a disk made of images of partitions: a table of our own, and behind
// it what is read of the images, through them. It is immutable, and safe for any
// number of goroutines.
type Joined struct {
	size   int64
	tables []run
	parts  []partition
	files  []Part // one for each of parts
}

// Part is the image of a partition.
type Part interface {
	Name() string
	Size() int64 // bytes, not store.Unknown
	// Blocks is the data in units of 512 bytes; settled: that will not change.
	Blocks() (n int64, settled bool)
	Status() Status
	Known() Status // Status from memory
	Open(ctx context.Context) (Handle, error)
}

// Placed is a part and where it is told to be.
type Placed struct {
	Part
	Kind   string // of its content, see xvm.Disk
	Disk   string // the disk that it is a partition of; "": it is not told
	Number int    // of the partition; 0: it is not told
}

// Join makes a disk. Numbers are those that the parts are told to have, if they
// are of one disk; else they follow the order. Seed decides the identifiers of
// disk and partitions.
func Join(parts []Placed, seed string) (*Joined, error) {
	j := &Joined{}
	var numbers []int
	disk, same := "", true
	for _, p := range parts {
		if p.Number > 0 {
			same = same && (disk == "" || disk == p.Disk) && !slices.Contains(numbers, p.Number)
			disk = p.Disk
		}
		numbers = append(numbers, p.Number)
		j.parts = append(j.parts, partition{Name: path.Base(p.Name()), Kind: p.Kind, Size: p.Size()})
		j.files = append(j.files, p.Part)
	}
	for i := range j.parts {
		if !same {
			numbers[i] = i + 1 // of several disks, or described twice
		}
		if numbers[i] == 0 {
			for numbers[i] = 1; slices.Contains(numbers[:i], numbers[i]) || slices.Contains(numbers[i+1:], numbers[i]); numbers[i]++ {
			}
		}
		j.parts[i].Number = numbers[i]
	}
	j.sort()
	var err error
	j.size, j.tables, err = layOut(j.parts, fmt.Appendf(nil, "%s %+v", seed, j.parts))
	return j, err
}

// sort brings the partitions into the order of their numbers.
func (j *Joined) sort() {
	files := make(map[int]Part)
	for i, p := range j.parts {
		files[p.Number] = j.files[i]
	}
	slices.SortFunc(j.parts, func(a, b partition) int { return a.Number - b.Number })
	for i, p := range j.parts {
		j.files[i] = files[p.Number]
	}
}

// Size in bytes.
func (j *Joined) Size() int64 { return j.size }

// Parts are the images, in the order of the disk.
func (j *Joined) Parts() []Part { return j.files }

// Blocks is the data in the disk in units of 512 bytes, known holes left out;
// settled: that will not change.
func (j *Joined) Blocks() (n int64, settled bool) {
	settled = true
	for _, t := range j.tables {
		n += int64(len(t.data)) / sectorSize
	}
	for _, f := range j.files {
		data, known := f.Blocks()
		n, settled = n+data, settled && known
	}
	return n, settled
}

// Describe lists the partitions, one "number name" a line, in the order of
// the disk.
func (j *Joined) Describe() string {
	var b strings.Builder
	for i, part := range j.parts {
		fmt.Fprintf(&b, "%d %s\n", part.Number, j.files[i].Name())
	}
	return b.String()
}

// Status is made of that of the parts: the disk is as good as the worst.
func (j *Joined) Status() Status { return j.describe(Part.Status) }

// Known is Status from memory.
func (j *Joined) Known() Status { return j.describe(Part.Known) }

func (j *Joined) describe(of func(Part) Status) (st Status) {
	order := []string{store.Verified.String(), store.Unverified.String(), store.Partial.String(), store.Corrupt.String()}
	worst := 0
	st.Note = "every partition is verified; the table is made by this program"
	for _, f := range j.files {
		part := of(f)
		st.Parts = append(st.Parts, part.Name)
		st.CachedBytes += part.CachedBytes
		st.Checked += part.Checked
		st.InFlight += part.InFlight
		if st.LastError == "" {
			st.LastError, st.LastErrorAt = part.LastError, part.LastErrorAt
		}
		if i := slices.Index(order, part.State); i > worst {
			worst = i
			st.Note = part.Name + " is " + part.State
			if part.Note != "" {
				st.Note += ": " + part.Note
			}
		}
		switch {
		case st.Verify == "":
			st.Verify = part.Verify
		case st.Verify != part.Verify:
			st.Verify = "whole" // the least that is promised
		}
		if part.VerifyNote != "" {
			st.VerifyNote = part.Name + ": " + part.VerifyNote
		}
	}
	st.State = order[worst]
	total := int64(0)
	for _, part := range j.parts {
		total += part.Size
	}
	st.Percent = 100 * float64(st.CachedBytes) / float64(total)
	return st
}

// Open opens all parts.
func (j *Joined) Open(ctx context.Context) (Handle, error) {
	h := &joinedHandle{size: j.size}
	for _, t := range j.tables {
		h.pieces = append(h.pieces, piece{t.off, int64(len(t.data)), Memory(t.data)})
	}
	for i, f := range j.files {
		part, err := f.Open(ctx)
		if err != nil {
			return nil, errors.Join(err, h.Close())
		}
		h.pieces = append(h.pieces, piece{j.parts[i].Off, j.parts[i].Size, part})
	}
	slices.SortFunc(h.pieces, func(a, b piece) int { return int(min(1, max(-1, a.off-b.off))) })
	return h, nil
}

// joinedHandle is the open disk. What is between the pieces is zeros.
type joinedHandle struct {
	size   int64
	pieces []piece // ascending
}

type piece struct {
	off, len int64
	Handle
}

// from is the first piece that ends above off.
func (h *joinedHandle) from(off int64) []piece {
	for i, p := range h.pieces {
		if off < p.off+p.len {
			return h.pieces[i:]
		}
	}
	return nil
}

func (h *joinedHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	var atEnd error
	if off >= h.size {
		return 0, io.EOF
	}
	if rest := h.size - off; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	n := 0
	for _, piece := range h.from(off) {
		at := off + int64(n)
		if gap := min(piece.off-at, int64(len(p)-n)); gap > 0 {
			clear(p[n : n+int(gap)])
			n, at = n+int(gap), at+gap
		}
		if n == len(p) {
			break
		}
		want := min(int64(len(p)-n), piece.off+piece.len-at)
		m, err := piece.ReadAt(ctx, p[n:n+int(want)], at-piece.off)
		n += m
		switch {
		case int64(m) == want:
		case err == nil || errors.Is(err, io.EOF):
			return n, io.ErrUnexpectedEOF
		default:
			return n, err
		}
	}
	clear(p[n:])
	return len(p), atEnd
}

func (h *joinedHandle) SeekData(off int64) (int64, error) {
	for _, p := range h.from(off) {
		off = max(off, p.off)
		at, err := p.SeekData(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
	}
	return h.size, nil
}

func (h *joinedHandle) SeekHole(off int64) (int64, error) {
	for _, p := range h.from(off) {
		if off < p.off {
			return off, nil
		}
		at, err := p.SeekHole(off - p.off)
		if err != nil || at < p.len {
			return p.off + at, err
		}
		off = p.off + p.len
	}
	return min(off, h.size), nil
}

func (h *joinedHandle) PassthroughFile() (*os.File, bool) { return nil, false }

// Complete fetches and checks all partitions.
func (h *joinedHandle) Complete(ctx context.Context) error {
	for _, p := range h.pieces {
		if c, ok := p.Handle.(interface{ Complete(context.Context) error }); ok {
			if err := c.Complete(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *joinedHandle) Close() error {
	var err error
	for _, p := range h.pieces {
		err = errors.Join(err, p.Close())
	}
	return err
}
