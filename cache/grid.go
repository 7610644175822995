package cache

import (
	"context"
	"io"
	"time"

	"vmcastfs/cache/source"
)

const (
	// gridBytes is a piece of the grid that all hosts share which ask a mirror. With 128
	// and 512 KiB a rack boots no faster.
	gridBytes = 256 << 10
	// gridPause is how long the rest of a region waits for the piece that is demanded.
	gridPause = 20 * time.Millisecond
)

// A span is blocks from..to-1. Every host fetches it as one range.
type span struct{ from, to int64 }

// A grid is how pieces are asked for.
type grid struct{ *flights }

// step is the length of a piece in blocks; 0: there is no grid, because no mirror would be
// asked, or no sums prove what it gives.
func (fl grid) step() int64 {
	if fl.mirrored == nil || fl.local.sums() == nil || !fl.mirrored() {
		return 0
	}
	return max(1, gridBytes/fl.local.bs)
}

// cut is how the blocks of a profile that all hosts have are fetched: runs of neighbours, by
// nothing but the profile. The rest of the file is cut along the grid.
func cut(profile []Extent, size, bs int64) map[int64]span {
	fo, _ := newFollower(profile, size, bs)
	groups := make(map[int64]span, len(fo.order))
	for i, b := range fo.order {
		if _, done := groups[b]; done {
			continue
		}
		end := b
		for ; end < b+followRange; end++ {
			p, ok := fo.place[end]
			if _, done := groups[end]; done || !ok || int(p) >= i+followFar {
				break
			}
		}
		for x := b; x < end; x++ {
			groups[x] = span{b, end}
		}
	}
	return groups
}

// pieceOf is the piece that block b is in: a group of the profile, or what the profile leaves
// of a piece of the grid, around b. Blocks of zeros at its ends are left out. It depends on
// nothing that this host has or does, and pieces have no block in common: so all hosts together
// ask for each once. Empty: some block has no sum.
func (fl grid) pieceOf(b int64) span {
	l := fl.local
	p, ok := fl.cut[b]
	if !ok {
		grid := max(1, gridBytes/l.bs)
		p = span{b / grid * grid, min(b/grid*grid+grid, l.blocks())}
		for x := p.from; x < p.to; x++ {
			if _, listed := fl.cut[x]; listed && x < b {
				p.from = x + 1
			} else if listed {
				p.to = x
			}
		}
	}
	for p.from < b && l.zero(p.from) {
		p.from++
	}
	for p.to > b+1 && l.zero(p.to-1) {
		p.to--
	}
	sums := l.sums()
	for x := p.from; x < p.to; x++ {
		if _, ok := sums.Known(x); !ok {
			return span{}
		}
	}
	return p
}

// newPiece makes a job for the piece with block b. It brings what is missing of it, and is asked
// for whole all the same. nil: nothing is missing; mu is held.
func (fl grid) newPiece(b int64, u source.Urgency) *job {
	p := fl.pieceOf(b)
	from, to := p.from, p.to
	if to == 0 {
		from, to = b, b+1
	}
	var list []*flight
	for x := from; x < to; x++ {
		f := fl.table[x]
		switch {
		case f == nil && !fl.local.here(x):
			f = fl.askAhead(x, max(u, source.ReadAhead))
		case f == nil || f.job != nil || f.buf != nil:
			continue
		}
		list = append(list, f)
	}
	if len(list) == 0 {
		return nil
	}
	j := fl.newJob(list, u)
	j.piece = p
	return j
}

// plan is flights.plan on the grid: the pieces that a reader waits for at once, the rest of the
// region a little later; mu is held.
func (fl grid) plan(fresh []*flight, w want) {
	for _, f := range fresh {
		if f.job == nil {
			fl.startNow(fl.newPiece(f.b, w.urgency))
		}
	}
	region := max(1, int64(fl.s.opts.Region)/fl.local.bs)
	if len(fresh) == 0 || !w.wide || fl.full.Load() {
		return
	}
	first := fresh[0].b / region * region
	last := min(fresh[len(fresh)-1].b/region*region+region, fl.local.blocks())
	fl.tasks.Run(func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(gridPause):
			fl.fetchAhead(first, last, source.ReadAhead)
		}
	})
}

// fetch starts a job for the piece of the grid that begins with block b; mu is held.
func (fl grid) fetch(b int64, u source.Urgency) bool {
	all := true
	for x := b; x < min(b+max(1, gridBytes/fl.local.bs), fl.local.blocks()); x++ {
		if fl.table[x] == nil && !fl.local.here(x) {
			all = fl.start(fl.newPiece(x, u)) && all
		}
	}
	return all
}

// discard reads n bytes.
func discard(r io.Reader, n int64) error {
	if n == 0 {
		return nil
	}
	_, err := io.CopyN(io.Discard, r, n)
	return err
}

// copyAll delivers all blocks that another file of the store has.
func (j *job) copyAll() {
	var rest []*flight
	for len(j.left) > 0 {
		if !j.copied() {
			rest, j.left = append(rest, j.left[0]), j.left[1:]
		}
	}
	j.left = rest
}

// again has a block that does not match its sum fetched once more. What came from a mirror
// comes from the origin then, and that shows whether the mirror has lied.
func (j *job) again(f *flight, trial *source.Trial, bad error) {
	fl := j.fl
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if f.err != nil {
		return
	}
	wrong := mismatch(bad) // else its sum cannot be read, which accuses nobody
	if wrong {
		f.acquit() // the origin's is no better
		f.settle = trial.Accuse()
	}
	if f.settle == nil {
		f.tries++
	}
	if f.tries > 1 || !wrong {
		fl.fail([]*flight{f}, bad)
		return
	}
	j.waiters -= f.waiters
	again := fl.newJob([]*flight{f}, f.urgency)
	again.waiters = f.waiters
	if f.settle != nil {
		fl.startNow(again)
	} else {
		fl.start(again)
	}
}
