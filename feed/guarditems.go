package feed

import (
	"cmp"
	"fmt"
	"slices"
)

// xmlItem is an item or entry: where it is, what it costs, how old it says it is.
// (Small numbers, because a hostile feed can hold half a million.)
type xmlItem struct {
	start, end int32
	tokens     int32
	date       int64 // seconds since 1970 of its first date, 0: none
}

// cost is what the parser spends on an item. It allocates for every token, and
// joins the pieces of some texts one by one, which is quadratic.
func (i xmlItem) cost() int { return int(i.tokens) + int(i.tokens)*int(i.end-i.start)>>14 }

// limitItems cuts the items that are too large in themselves, and the oldest
// of those that are too many.
func (g *xmlGuard) limitItems() (warnings []string) {
	listed, kept := len(g.items), g.items[:0]
	for _, i := range g.items {
		if i.end-i.start > maxItemBytes || i.cost() > maxItemCost {
			g.cut(int(i.start), int(i.end))
			continue
		}
		kept = append(kept, i)
	}
	if large := listed - len(kept); large > 0 {
		warnings = append(warnings, fmt.Sprintf("%d items are left out: too large", large))
	}
	shown := 0
	for n, show := range newest(kept, xmlItem.cost, func(i xmlItem) int64 { return i.date }) {
		if show {
			shown++
		} else {
			g.cut(int(kept[n].start), int(kept[n].end))
		}
	}
	return append(warnings, tooMany(len(kept), shown)...)
}

func tooMany(items, shown int) []string {
	if items == shown {
		return nil
	}
	return []string{fmt.Sprintf("feed has %d items: only the newest %d are shown", items, shown)}
}

// errListed refuses a feed with so many items that the good ones are not looked for.
var errListed = fmt.Errorf("%w: more than %d items", errTooLarge, maxListed)

// newest tells which items are shown: the newest [MaxItems], or fewer if these
// together cost more than maxCost. Of items that are equally old, or undated,
// those that come later in the feed count as older.
func newest[T any](items []T, cost func(T) int, date func(T) int64) []bool {
	order := make([]int, len(items))
	for n := range items {
		order[n] = n
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(date(items[b]), date(items[a])) })
	show, total := make([]bool, len(items)), 0
	for rank, n := range order {
		total += cost(items[n])
		show[n] = rank < MaxItems && total <= maxCost
	}
	return show
}

// apply makes the edits. Edits inside of a stretch that is left out go with it.
func (g *xmlGuard) apply() []byte {
	if len(g.edits) == 0 {
		return g.doc[g.start:]
	}
	slices.SortFunc(g.edits, func(a, b edit) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return b.end - a.end
	})
	out := make([]byte, 0, len(g.doc)-g.start)
	at := g.start
	for _, e := range g.edits {
		if e.start < at {
			continue
		}
		out = append(append(out, g.doc[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, g.doc[at:]...)
}
