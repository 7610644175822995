package cache

import "vmcastfs/cache/source"

// plan turns new flights, made by one reader, into ranges. A demanded run is a
// range of its own that goes on to the end of its aligned region. So what is
// waited for comes first, and the rest right behind it without a second round
// trip. What precedes it in the region is a range beside it. mu is held.
func (fl *flights) plan(fresh []*flight, w want) {
	if g := (grid{fl}); g.step() > 0 {
		g.plan(fresh, w)
		return
	}
	for len(fresh) > 0 {
		n := 1
		for n < len(fresh) && fresh[n].b == fresh[n-1].b+1 {
			n++
		}
		run := fresh[:n:n]
		fresh = fresh[n:]
		var rest [][]*flight
		if w.wide {
			rest = fl.rest(run[0].b, run[n-1].b)
		}
		if len(rest) > 0 && rest[0][0].b == run[n-1].b+1 {
			run = append(run, rest[0]...)
			rest = rest[1:]
		}
		fl.startNow(fl.newJob(run, w.urgency)) // someone waits, so it may not fail for want of a slot
		for _, part := range rest {
			fl.start(fl.newJob(part, source.ReadAhead))
		}
	}
}

// rest makes flights for what is missing around the demanded blocks
// first..last, up to the borders of their region: what follows, then what
// precedes, if the origin is not near; mu is held.
func (fl *flights) rest(first, last int64) (runs [][]*flight) {
	r := fl.origin.reach(fl.s.opts.Region)
	region := r.region / fl.local.bs
	if region <= 1 || fl.full.Load() {
		return nil
	}
	runs = fl.missing(last+1, min(last/region*region+region, fl.local.blocks()), source.ReadAhead, nil)
	if r.near {
		return runs
	}
	return fl.missing(first/region*region, first, source.ReadAhead, runs)
}

// missing makes flights for the blocks from..to-1 that are neither here nor on
// their way, and appends them to runs, one per stretch; mu is held.
func (fl *flights) missing(from, to int64, u source.Urgency, runs [][]*flight) [][]*flight {
	next := int64(-1)
	for b := from; b < to; b++ {
		if fl.table[b] != nil || fl.local.here(b) {
			continue
		}
		f := fl.add(b, u)
		if b == next {
			runs[len(runs)-1] = append(runs[len(runs)-1], f)
		} else {
			runs = append(runs, []*flight{f})
		}
		next = b + 1
	}
	return runs
}

// rangeLen is the length of one range of read-ahead or completion in bytes:
// long enough that its request costs little, short enough that a reader that
// joins its end does not wait for long.
const rangeLen = 1 << 20

// fetchAhead starts ranges for what is missing of the blocks from..to-1, as far
// as there are slots, and returns how far it came.
func (fl *flights) fetchAhead(from, to int64, u source.Urgency) int64 {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	to = min(to, fl.local.blocks())
	if fl.tasks.Context().Err() != nil {
		return to
	}
	if fl.runner != nil {
		fl.runner.wantAhead(from, to, u)
		return to
	}
	step, piece := max(1, rangeLen/fl.local.bs), grid{fl}.step()
	if piece > 0 {
		step, from = piece, from/piece*piece
	}
	for b := from; b < to; b += step {
		if _, more := fl.s.slots.state(fl.origin); !more {
			return b
		}
		all := true
		if piece > 0 {
			all = grid{fl}.fetch(b, u)
		} else {
			for _, run := range fl.missing(b, min(b+step, to), u, nil) {
				all = fl.start(fl.newJob(run, u)) && all // each, so that none is left behind
			}
		}
		if !all {
			return b
		}
	}
	return to
}
