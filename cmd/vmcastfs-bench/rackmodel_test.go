package bench

import (
	"container/heap"
	"math"
	"testing"

	"vmcastfs/cache/boottrace"
)

// The model of a site. A host boots by asking for its pieces one after the other, and thinks for
// a while behind each. A link sends one piece after the other. A cache asks once for each piece.
// Times are in seconds, sizes in bytes.
type link struct{ rate, latency, free, sent float64 }

// send returns when the last of bytes comes that are there at a time, and are asked for now. What
// is sent later takes its part of the link, and leaves no gap before it.
func (l *link) send(now, at, bytes float64) float64 {
	l.free = math.Max(now, l.free) + bytes/l.rate
	l.sent += bytes
	return math.Max(l.free, at+bytes/l.rate) + l.latency
}

// A supplier is an origin (without a parent) or a cache.
type supplier struct {
	out    link
	parent *supplier
	poll   float64 // how often those are looked after who wait for a piece; 0: it is handed on
	have   map[int]float64
}

func (s *supplier) get(piece int, now, bytes float64) float64 {
	at := now
	if s.parent != nil {
		came, asked := s.have[piece]
		if !asked {
			came = s.parent.get(piece, now, bytes)
			s.have[piece] = came
		} else if came > at && s.poll > 0 {
			came = at + math.Ceil((came-at)/s.poll)*s.poll
		}
		at = math.Max(at, came)
	}
	return s.out.send(now, at, bytes)
}

// What was measured, and goes into the model: one host alone, without a mirror. What every host
// takes from the origin itself goes before its pieces.
const (
	modelAlone = 5.76   // seconds
	modelBytes = 52.4e6 // at the origin
	modelOwn   = 213e3  // of these: head, tail, and what is behind the block list
)

type modelHost struct {
	at   float64
	next int
	from *supplier
}

type modelHosts []*modelHost

func (h modelHosts) Len() int           { return len(h) }
func (h modelHosts) Less(i, j int) bool { return h[i].at < h[j].at }
func (h modelHosts) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *modelHosts) Push(x any)        { *h = append(*h, x.(*modelHost)) }
func (h *modelHosts) Pop() (x any)      { x, *h = (*h)[len(*h)-1], (*h)[:len(*h)-1]; return x }

// boot has all hosts boot, and returns when the last is done. Half of the pieces are demanded, the
// others come along in the same region.
func boot(origin *supplier, hosts modelHosts, pieces int, think float64) (last float64) {
	bytes := (modelBytes - modelOwn) / float64(pieces)
	for _, h := range hosts {
		h.at = origin.out.send(0, 0, modelOwn)
	}
	heap.Init(&hosts)
	for hosts.Len() > 0 {
		h := hosts[0]
		if h.next >= pieces {
			last = math.Max(last, heap.Pop(&hosts).(*modelHost).at)
			continue
		}
		asked := h.at
		h.at = h.from.get(h.next, asked, bytes) + think
		if h.next+1 < pieces {
			h.from.get(h.next+1, asked+0.02, bytes)
		}
		h.next += 2
		heap.Fix(&hosts, 0)
	}
	return last
}

func newOrigin() *supplier { return &supplier{out: link{rate: 12.5e6, latency: 0.03}} }

func newCache(parent *supplier, poll float64) *supplier {
	return &supplier{out: link{rate: 1.25e9, latency: 0.0005}, parent: parent, poll: poll, have: map[int]float64{}}
}

func on(n int, from *supplier) (hosts modelHosts) {
	for range n {
		hosts = append(hosts, &modelHost{from: from})
	}
	return hosts
}

// TestRackModel: the model has the figures that were measured of 1, 4 and 8 hosts, and says what
// 1,000 hosts in 25 racks cost, and where that saturates.
func TestRackModel(t *testing.T) {
	trace, err := boottrace.Reads()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, r := range trace {
		seen[r.Off>>19] = true // a region of two pieces
	}
	pieces := 2 * len(seen)
	think := 0.0 // so that one host alone takes what was measured
	for step := 0.1; step > 1e-6; step /= 2 {
		o := newOrigin()
		if boot(o, on(1, o), pieces, think+step) < modelAlone {
			think += step
		}
	}
	near := func(what string, got, want, part float64) {
		t.Helper()
		t.Logf("%s: %.1f, measured %.1f", what, got, want)
		if math.Abs(got-want) > part*want {
			t.Errorf("%s: the model says %.2f, measured was %.2f", what, got, want)
		}
	}
	for _, m := range []struct {
		hosts          int
		seconds, bytes float64 // measured
	}{{1, rackMeasured.one, 52.9e6}, {4, rackMeasured.four, 53.6e6}, {8, rackMeasured.eight, 54.6e6}} {
		o := newOrigin()
		last := boot(o, on(m.hosts, newCache(o, 0.5)), pieces, think)
		near("seconds of hosts behind nginx", last, m.seconds, 0.15)
		near("MB at the origin", o.out.sent/1e6, m.bytes/1e6, 0.05)
	}
	for _, x := range []struct {
		racks, hosts int
		most, bytes  float64
	}{{25, 40, 40, 300e6}, {1, 40, 12, 65e6}} {
		o := newOrigin()
		site, all := newCache(o, 0.5), modelHosts(nil)
		for range x.racks {
			all = append(all, on(x.hosts, newCache(site, 0.5))...)
		}
		last := boot(o, all, pieces, think)
		t.Logf("%d racks of %d hosts: %.1f s, %.0f MB at the origin, of which first looks %.0f MB; the site's mirror sends %.0f MB",
			x.racks, x.hosts, last, o.out.sent/1e6, modelOwn*float64(x.racks*x.hosts)/1e6, site.out.sent/1e6)
		if last > x.most || o.out.sent > x.bytes {
			t.Errorf("%d racks of %d hosts: %.1f s and %.0f MB", x.racks, x.hosts, last, o.out.sent/1e6)
		}
	}
}

// rackMeasured is what the slowest of 1, 4 and 8 hosts behind nginx took, in seconds.
var rackMeasured = struct{ one, four, eight float64 }{6.10, 6.61, 6.82}
