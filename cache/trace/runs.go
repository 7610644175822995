package trace

import (
	"slices"
	"sort"
)

// Runs say where blocks came from last, in the order of the blocks, each at most
// once. Of each Arrival only Block, N and From are used.
type Runs []Arrival

// set says that blocks came from there last; 0: from the server of the feed, of which
// no record is made. A list that is full takes nothing more.
func (l Runs) set(block, n uint32, from uint8) Runs {
	end := block + n
	i := sort.Search(len(l), func(i int) bool { return l[i].Block+l[i].N >= block })
	whole := Arrival{Block: block, N: n, From: from}
	var before, after Runs
	j := i
	for ; j < len(l) && l[j].Block <= end; j++ {
		x := l[j]
		if x.From == from {
			to := max(x.Block+x.N, whole.Block+whole.N)
			whole.Block = min(x.Block, whole.Block)
			whole.N = to - whole.Block
			continue
		}
		if x.Block < block {
			before = Runs{{Block: x.Block, N: block - x.Block, From: x.From}}
		}
		if x.Block+x.N > end {
			after = Runs{{Block: end, N: x.Block + x.N - end, From: x.From}}
		}
	}
	if i == j && from == 0 {
		return l // most often
	}
	put := before
	if from != 0 {
		put = append(put, whole)
	}
	l = slices.Replace(l, i, j, append(put, after...)...)
	return l[:min(len(l), MaxArrivals)]
}

// from is the number of a name in From, which is one more than its place; 0: of none,
// or of one too many.
func (t *Trace) from(name string) uint8 {
	i := slices.Index(t.From, name)
	if name == "" || i < 0 && len(t.From) >= maxFrom {
		return 0
	}
	if i < 0 {
		i, t.From = len(t.From), append(t.From, name)
	}
	return uint8(i + 1)
}

// Take takes over what o says of where blocks came from last, and gives up what t
// says.
func (t *Trace) Take(o *Trace) {
	t.Elsewhere = nil
	for _, a := range o.Elsewhere {
		t.Elsewhere = t.Elsewhere.set(a.Block, a.N, t.from(o.From[a.From-1]))
	}
}
