package page

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/trace"
)

// Size of the drawing of a timeline, in its own units.
const (
	plotWidth  = 1000
	plotHeight = 240
	maxDots    = 1200 // of one kind
	maxAreas   = 500
	// maxPause is how long nothing is read at most while a machine boots.
	maxPause = 10 * time.Second
	// leastWait is the shortest wait that is shown as one.
	leastWait = time.Millisecond
)

// Timeline is a boot: time to the right, the offset in the image upwards.
type Timeline struct {
	Grid             string
	Areas, Elsewhere string // fetched ahead of the readers, and from where
	Dots, Waits      string
	X, Y             []string // labels at even distances; Y from the top
	Words            string
}

// newTimeline draws a boot.
func newTimeline(t *trace.Trace) *Timeline {
	if t == nil || len(t.Reads) == 0 {
		return nil
	}
	end := bootEnd(t)
	span, xs := axis(end.Seconds(), 0.1, []float64{1, 2, 2.5, 5, 10}, 10)
	top := int64(t.Size)
	if top <= 0 {
		for _, r := range t.Reads {
			top = max(top, r.Off+int64(r.Len))
		}
	}
	height, ys := axis(float64(top), 4096, []float64{1, 2, 4, 8}, 2)
	reads, waits := 0, 0
	for _, r := range t.Reads {
		if micros(r.At) <= end {
			reads++
			if waited(r) {
				waits++
			}
		}
	}
	l := &Timeline{Words: fmt.Sprintf("%d reads in %s, of which %d waited for the network", reads, took(end), waits)}
	for i := range xs + 1 {
		l.X = append(l.X, seconds(span*float64(i)/float64(xs)))
	}
	for i := range xs {
		l.Grid += fmt.Sprintf("M%d 0v%d", plotWidth*(i+1)/xs, plotHeight)
	}
	for i := range ys {
		l.Grid += fmt.Sprintf("M0 %dh%d", plotHeight*i/ys, plotWidth)
	}
	for i := ys; i >= 0; i-- {
		l.Y = append(l.Y, humanize.IBytes(uint64(height*float64(i)/float64(ys))))
	}
	x := func(micros uint32) int {
		return min(int(float64(micros)/1e6/span*plotWidth+0.5), plotWidth)
	}
	y := func(off int64) int { return plotHeight - min(int(float64(off)/height*plotHeight+0.5), plotHeight) }
	l.draw(t, end, x, y)
	return l
}

// thinner lets at most about so many of n pass, evenly.
func thinner(n, most int) func() bool {
	step, i := max((n+most-1)/most, 1), -1
	return func() bool { i++; return i%step == 0 }
}

// draw draws every read, or of very many each so many-th.
func (l *Timeline) draw(t *trace.Trace, end time.Duration, x func(uint32) int, y func(int64) int) {
	var areas, elsewhere, dots, waits strings.Builder
	seen := map[[3]int]bool{}
	once := func(kind, a, b int) bool {
		k := [3]int{kind, a, b}
		again := seen[k]
		seen[k] = true
		return !again
	}
	area := thinner(len(t.Arrivals), maxAreas)
	for _, a := range t.Arrivals {
		if a.Why == trace.Asked && a.From == 0 || micros(a.At) > end || !area() {
			continue
		}
		x0, x1 := x(a.At), x(a.Until)
		y1, y0 := y(int64(a.Block)*t.Block), y((int64(a.Block)+int64(a.N))*t.Block)
		w, h := max(x1-x0, 3), max(y1-y0, 2)
		if !once(int(a.From), x0<<12|w, y0<<12|h) {
			continue
		}
		to := &areas
		if a.From != 0 {
			to = &elsewhere
		}
		fmt.Fprintf(to, "M%d %dh%dv%dh-%dz", x0, y0, w, h, w)
	}
	wait, dot := thinner(len(t.Reads), maxDots/2), thinner(len(t.Reads), maxDots)
	for _, r := range t.Reads {
		if micros(r.At) > end {
			break
		}
		x0, y0 := x(r.At), y(r.Off)
		if !waited(r) {
			if dot() && once(-2, x0, y0) {
				fmt.Fprintf(&dots, "M%d %dh0", x0, y0)
			}
		} else if w := max(x(r.At+r.Took)-x0, 1); wait() && once(-1, x0<<12|w, y0) {
			fmt.Fprintf(&waits, "M%d %dh%d", x0, y0, w)
		}
	}
	l.Areas, l.Elsewhere, l.Dots, l.Waits = areas.String(), elsewhere.String(), dots.String(), waits.String()
}

func micros(n uint32) time.Duration { return time.Duration(n) * time.Microsecond }

// waited tells whether a guest waited for a read.
func waited(r trace.Read) bool { return r.How != trace.Hit && micros(r.Took) >= leastWait }

// bootEnd is when the boot ended: at the last read before a long pause. Before a
// quarter of what was recorded has been read, a machine is still beginning, however
// long it pauses.
func bootEnd(t *trace.Trace) time.Duration {
	end, read, total := time.Duration(0), int64(0), t.Bytes()
	for _, r := range t.Reads {
		if micros(r.At) > end+maxPause && 4*read >= total {
			break
		}
		end = max(end, micros(r.At)+micros(r.Took))
		read += int64(r.Len)
	}
	return end
}

// waitedFor is how long at least one read waited.
func waitedFor(t *trace.Trace) (sum time.Duration) {
	end, until := bootEnd(t), time.Duration(0)
	for _, r := range t.Reads { // about in the order of time
		from, to := micros(r.At), micros(r.At)+micros(r.Took)
		if from > end || !waited(r) || to <= until {
			continue
		}
		sum += to - max(from, until)
		until = to
	}
	return sum
}

// axis rounds the end of an axis up to at most six steps of a round size.
func axis(end, least float64, round []float64, base float64) (to float64, steps int) {
	end = max(end, least)
	unit := math.Pow(base, math.Floor(math.Log(end/6)/math.Log(base)))
	if base == 2 { // of the next smaller power of 16
		unit = math.Pow(16, math.Floor(math.Log(end/6)/math.Log(16)))
	}
	for {
		for _, r := range round {
			if steps = int(math.Ceil(end / (unit * r))); steps <= 6 {
				return unit * r * float64(steps), steps
			}
		}
		unit *= max(base, round[len(round)-1])
	}
}

func seconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s < 120:
		return strings.TrimSuffix(fmt.Sprintf("%.3g", s), ".0") + " s"
	}
	return fmt.Sprintf("%.3g min", s/60)
}
