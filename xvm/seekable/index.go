package seekable

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	kflate "github.com/klauspost/compress/flate"
)

// trust is why a point is believed.
type trust uint8

const (
	proven   trust = iota // decoded here, from the beginning or from a proven point
	stated                // the file's own table says so
	restored              // from Restore, or decoded from such a point
)

// A point is a place at which decoding can begin. Offsets in the compressed file are in bits.
type point struct {
	out    int64 // plain offset
	in     int64 // next bit to decode
	start  int64 // gzip: plain offset at which the member began
	head   int64 // gzip: header of the current block
	left   int64 // gzip: bytes to come of a stored block
	state  blockState
	final  bool   // gzip: the current block is the last of its member
	crc    uint32 // gzip: of the member so far
	aux    uint8  // xz: kind of check plus one
	trust  trust
	window string // gzip: history that matches may use, itself deflated; "" at a boundary
}

// inside reports whether the point lies in the middle of a gzip member. Such a point has a window; boundaries have none.
func (p *point) inside() bool { return p.window != "" }

func (p *point) cost() int { return pointCost + len(p.window) }

// pointCost is what a point takes besides its window.
const pointCost = 112

// same reports whether both describe one state of the decoder.
func (p point) same(q point) bool {
	if p.inside() != q.inside() {
		return false
	}
	wp, wq := p.window, q.window
	p.trust, q.trust, p.window, q.window = 0, 0, "", ""
	if p != q || wp == wq {
		return p == q
	}
	hp, errP := unpackWindow(wp)
	hq, errQ := unpackWindow(wq)
	return errP == nil && errQ == nil && bytes.Equal(hp, hq)
}

func packWindow(w []byte) (string, error) {
	var b strings.Builder
	err := kflate.StatelessDeflate(&b, w, true, nil)
	return strings.Clone(b.String()), err
}

func unpackWindow(s string) ([]byte, error) {
	w, err := io.ReadAll(io.LimitReader(flate.NewReader(strings.NewReader(s)), windowSize+1))
	if err == nil && len(w) > windowSize {
		err = ErrPoints
	}
	return w, err
}

// A run is a decoder's way through the file, as far as the index has to know it.
type run struct {
	trust trust
	epoch int   // of the index, when it began
	last  int64 // plain offset of the last boundary or point passed
}

// An index holds the seek points of a file and its size, and decides what is believed.
type index struct {
	format Format
	stored int64
	budget int // Options.PointBytes

	mu     sync.Mutex // guards what follows; nothing else is locked while it is held
	every  int64
	points []point // ascending in out, and not descending in in
	bytes  int
	size   int64 // -1: not known
	trust  trust // of size
	epoch  int   // counts the droppings of restored points
	dirty  bool
}

// countTo is the number of points with out ≤ off; mu is held.
func (x *index) countTo(off int64) int {
	return sort.Search(len(x.points), func(i int) bool { return x.points[i].out > off })
}

// floor is the point to start from for plain offset off: the zero point is the beginning of the file.
func (x *index) floor(off int64) point {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.countTo(off); i > 0 {
		return x.points[i-1]
	}
	return point{}
}

// begin starts a run at a point.
func (x *index) begin(p point) *run {
	x.mu.Lock()
	defer x.mu.Unlock()
	return &run{trust: p.trust, epoch: x.epoch, last: p.out}
}

// stale reports whether the run rests on points that have been found false meanwhile.
func (x *index) stale(r *run) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return r.trust == restored && r.epoch != x.epoch
}

// nextStop tells a gzip run at plain offset out how far it may decode before it has to ask mustPass.
func (x *index) nextStop(out int64) int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	i, last := x.countTo(out), int64(0)
	if i > 0 {
		last = x.points[i-1].out
	}
	next := last + x.every
	if next <= out {
		next = out + x.every
	}
	if i < len(x.points) {
		next = min(next, x.points[i].out)
	}
	return next
}

// mustPass reports whether the run at plain offset out has to call pass there: a new point is due, or one has to be
// compared.
func (x *index) mustPass(r *run, out int64, inside bool) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.countTo(r.last); i < len(x.points) && x.points[i].out <= out {
		q := &x.points[i]
		switch {
		case q.out < out || r.trust != proven || q.trust != proven:
			return q.out < out || q.inside() || !inside // a boundary is compared when it comes
		case q.inside() == inside:
			r.last = out
		}
		return false
	}
	return x.spaced(x.countTo(out), out, inside)
}

// spaced reports whether a point at out, before points[i], is far enough from the one before it; mu is
// held.
func (x *index) spaced(i int, out int64, inside bool) bool {
	last := int64(0)
	if i > 0 {
		last = x.points[i-1].out
	}
	if inside {
		return out-last >= x.every
	}
	return out > last && out-last >= x.every/boundaryShare
}

// Boundaries are kept boundaryShare times denser than points that need a window.
const boundaryShare = 16

// pass is told that a run is in state p. Points that the index holds between the run's last point and p.out are false,
// a point at p.out has to be the same, and p may be new. p.trust is set from the run.
func (x *index) pass(r *run, p point) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	p.trust = r.trust
	for p.out > r.last {
		i := x.countTo(r.last)
		if i == len(x.points) || x.points[i].out > p.out {
			break
		}
		q := &x.points[i]
		if q.out == p.out && p.inside() && !q.inside() {
			r.last = p.out - 1 // the end of the member is still to come
			return nil
		}
		if q.out == p.out && q.same(p) {
			q.trust = min(q.trust, r.trust)
			break
		}
		if err := x.disagree(r, q.trust); err != nil {
			return err
		}
	}
	if i := x.countTo(p.out); x.spaced(i, p.out, p.inside()) {
		x.insert(i, p)
	}
	r.last = p.out
	return nil
}

// finish is told that a run found the end of the file at plain offset out.
func (x *index) finish(r *run, out int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := x.countTo(r.last); i < len(x.points); i = x.countTo(r.last) {
		if err := x.disagree(r, x.points[i].trust); err != nil {
			return err
		}
	}
	if x.size >= 0 && x.size != out {
		if err := x.disagree(r, x.trust); err != nil {
			return err
		}
	}
	if x.size != out {
		x.size, x.trust, x.dirty = out, r.trust, true
	}
	x.trust = min(x.trust, r.trust)
	return nil
}

// beyond is told that a run passed plain offset out, which may be more than the known size.
func (x *index) beyond(r *run, out int64) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.size >= 0 && out > x.size {
		return x.disagree(r, x.trust)
	}
	return nil
}

// disagree handles a run that does not fit what is known with trust t. Restored knowledge goes; the run may go on if
// it does not rest on it.
func (x *index) disagree(r *run, t trust) error {
	if r.trust != restored && t != restored {
		return corrupt("the file's own table does not fit its data")
	}
	x.forget()
	if r.trust == restored {
		return ErrPoints
	}
	return nil
}

// failed is told that the data of a run made no sense. The error is the file's, unless the run began at a point that
// may be false.
func (x *index) failed(r *run, err error) error {
	if r.trust != restored {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.forget()
	return fmt.Errorf("%w: %v", ErrPoints, err) // not ErrCorrupt: the file may be sound
}

// forget drops all that is restored; mu is held.
func (x *index) forget() {
	kept := x.points[:0]
	x.bytes = 0
	for _, p := range x.points {
		if p.trust != restored {
			kept = append(kept, p)
			x.bytes += p.cost()
		}
	}
	clear(x.points[len(kept):])
	x.points = kept
	if x.trust == restored {
		x.size, x.trust = -1, proven
	}
	x.epoch++
	x.dirty = true
}

// insert puts p before points[i] if it keeps the order, and thins the points when they take too much memory; mu
// is held.
func (x *index) insert(i int, p point) {
	if i > 0 && x.points[i-1].in > p.in || i < len(x.points) && x.points[i].in < p.in {
		return
	}
	x.points = append(x.points, point{})
	copy(x.points[i+1:], x.points[i:])
	x.points[i] = p
	x.bytes += p.cost()
	x.dirty = true
	for x.bytes > x.budget && len(x.points) > 0 {
		x.every *= 2
		all := x.points
		x.points, x.bytes = all[:0], 0
		for _, p := range all {
			if x.spaced(len(x.points), p.out, p.inside()) {
				x.points = append(x.points, p)
				x.bytes += p.cost()
			}
		}
		clear(all[len(x.points):])
	}
}

// setStated takes in the size that a table in the file states.
func (x *index) setStated(size int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.size >= 0 && x.trust == restored && x.size != size {
		x.forget()
	}
	if x.size < 0 || x.trust > stated {
		x.size, x.trust, x.dirty = size, stated, true
	}
}

// addStated takes in a point of such a table; they come in order.
func (x *index) addStated(p point) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if i := x.countTo(p.out); x.spaced(i, p.out, false) {
		x.insert(i, p)
	}
}

func (x *index) known() (int64, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.size, x.size >= 0
}
