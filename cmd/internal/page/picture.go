package page

import (
	"fmt"
	"math/bits"
	"strings"

	"vmcastfs/cache/trace"
	"vmcastfs/fs/catalog/image"
)

// Bar is one image as a row of pieces, drawn in units of one piece by 30.
type Bar struct {
	N      int // pieces
	Paths  []Path
	Ticks  string // of what was read
	Words  string // for those who do not see it
	Shares []Share
}

// Path is an SVG path with its class, which says the colour.
type Path struct{ Class, D string }

// Share is how much of an image is in one state.
type Share struct {
	Class, Name string
	Percent     float64
}

// States of a piece, which are classes of the style sheet. A digit behind one says
// how much of the piece is here, and how high it is drawn: 1 little, 2 more, 3 all.
const (
	classAbsent    = "absent"
	classFetched   = "fetched"
	classVerified  = "verified"
	classElsewhere = "elsewhere"
	classCorrupt   = "corrupt"
	classComing    = "coming"
)

var stateNames = map[string]string{
	classAbsent: "not here", classFetched: "fetched, not checked yet", classVerified: "verified",
	classElsewhere: "from another release or a mirror", classCorrupt: "corrupt",
}

// newBar draws the pieces of an image.
func newBar(p image.Picture) *Bar {
	n := len(p.Pieces)
	b := &Bar{N: max(n, 1)}
	if p.Boot != nil && n > 0 {
		b.Ticks = ticks(p.Boot, n)
	}
	switch {
	case p.Status.State == classCorrupt: // whatever of it is here: reads fail
		b.Paths, b.Words = []Path{{classCorrupt + "3", fmt.Sprintf("M0 10h%dv20h-%dz", b.N, b.N)}}, "corrupt: reads of it fail"
		b.Shares = []Share{{classCorrupt, stateNames[classCorrupt], 100}}
		return b
	case n == 0:
		b.Words = "nothing of it is here"
		return b
	}
	runs := map[string]*run{}
	sums := map[string]int64{}
	total, coming := int64(0), int64(0)
	for i, x := range p.Pieces {
		blocks, here := x.Blocks-x.Zero, x.Here-x.Zero
		from := x.Elsewhere
		total += blocks
		coming += x.Coming
		sums[classAbsent] += blocks - here
		own := classFetched
		if p.Checked {
			own = classVerified
		}
		sums[own] += here - from
		sums[classElsewhere] += from
		class := own
		if 2*from > here {
			class = classElsewhere
		}
		switch {
		case here <= 0:
			class = ""
		case here == blocks:
			class += "3"
		case 3*here > blocks:
			class += "2"
		default:
			class += "1"
		}
		draw(runs, class, i)
		if x.Coming > 0 {
			draw(runs, classComing, i)
		}
	}
	for _, class := range []string{classFetched, classVerified, classElsewhere} {
		for _, level := range "123" {
			if r := runs[class+string(level)]; r != nil {
				b.Paths = append(b.Paths, Path{class + string(level), r.end()})
			}
		}
	}
	if r := runs[classComing]; r != nil {
		b.Paths = append(b.Paths, Path{classComing, r.end()})
	}
	var words []string
	for _, class := range []string{classVerified, classElsewhere, classFetched, classAbsent} {
		if share := 100 * float64(sums[class]) / float64(max(total, 1)); sums[class] > 0 {
			b.Shares = append(b.Shares, Share{class, stateNames[class], share})
			words = append(words, percent(share)+" "+stateNames[class])
		}
	}
	if coming > 0 {
		words = append(words, "more is being fetched now")
	}
	if total == 0 {
		words = append(words, "nothing but zeros")
	}
	b.Words = strings.Join(words, ", ")
	return b
}

// run collects neighbours of one colour as one rectangle.
type run struct {
	b           strings.Builder
	from, to    int
	top, height int
}

func draw(runs map[string]*run, class string, i int) {
	if class == "" {
		return
	}
	r := runs[class]
	if r == nil {
		r = &run{from: i, to: i, top: 10, height: 20}
		switch class[len(class)-1] { // how much of a piece is here
		case '1':
			r.top, r.height = 26, 4
		case '2':
			r.top, r.height = 18, 12
		}
		runs[class] = r
	}
	if i > r.to {
		r.flush()
		r.from = i
	}
	r.to = i + 1
}

func (r *run) flush() {
	fmt.Fprintf(&r.b, "M%d %dh%dv%dh-%dz", r.from, r.top, r.to-r.from, r.height, r.to-r.from)
}

func (r *run) end() string {
	r.flush()
	return r.b.String()
}

// ticks are lines above the pieces that were read, the longer the more often.
func ticks(t *trace.Trace, n int) string {
	counts := make([]uint, n)
	for _, r := range t.Reads {
		if t.Size <= 0 {
			break
		}
		i := int(float64(r.Off) / float64(t.Size) * float64(n))
		last := int(float64(r.Off+int64(max(r.Len, 1))-1) / float64(t.Size) * float64(n))
		for ; i <= last && i < n; i++ {
			counts[i]++
		}
	}
	var b strings.Builder
	for i, c := range counts {
		if c > 0 {
			fmt.Fprintf(&b, "M%d.5 9v-%d", i, min(3+bits.Len(c), 9))
		}
	}
	return b.String()
}
