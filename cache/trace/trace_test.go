package trace

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"
	"testing/synctest"
	"time"
)

func TestRecorder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ends := 0
		r := NewRecorder(&Pool{}, 65536, nil, func() { ends++ })
		r.Arrived(7, Profile, "")
		r.Read(time.Now(), 2*time.Millisecond, 4096, 512, Miss)
		r.Arrived(8, Profile, "")
		r.Arrived(3, Asked, "key")
		r.Arrived(4, Asked, "key")
		time.Sleep(time.Second)
		r.Read(time.Now(), time.Microsecond, 0, 4096, Hit)
		got := r.Trace(1 << 20)
		want := &Trace{
			Begun: got.Begun, Size: 1 << 20, Block: 65536, From: []string{"key"},
			Reads:     []Read{{0, 2000, 4096, 512, Miss}, {1e6, 1, 0, 4096, Hit}},
			Arrivals:  []Arrival{{0, 0, 7, 2, Profile, 0}, {0, 0, 3, 2, Asked, 1}},
			Elsewhere: Runs{{0, 0, 3, 2, Asked, 1}},
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		time.Sleep(Window)
		synctest.Wait()
		if ends != 1 {
			t.Fatalf("the boot ended %d times", ends)
		}
		// After the boot no read is recorded, but what comes from elsewhere is ...
		r.Read(time.Now(), 0, 0, 4096, Hit)
		r.Arrived(9, Rest, "")
		r.Arrived(5, Rest, "other")
		if got := r.Trace(1 << 20); len(got.Reads) != 2 || len(got.Arrivals) != 2 || len(got.Elsewhere) != 2 {
			t.Errorf("after the boot: %+v", got)
		}
		// ... until another boot begins, which knows what came before it.
		r.Again()
		r.Read(time.Now(), 0, 0, 4096, Hit)
		if got := r.Trace(1 << 20); len(got.Reads) != 1 || len(got.Arrivals) != 0 || len(got.Elsewhere) != 2 {
			t.Errorf("the next boot: %+v", got)
		}
		r.Stop()
		time.Sleep(2 * Window)
		synctest.Wait()
		if ends != 1 {
			t.Errorf("stopped, it ends by itself: %d", ends)
		}
	})
}

// TestBounds: a trace takes a MiB at most, few recorders take so much, and the end
// of the room is the end of the boot.
func TestBounds(t *testing.T) {
	t.Parallel()
	pool, over := &Pool{}, make(chan struct{}, maxLarge+1)
	var all []*Recorder
	for i := range maxLarge + 1 {
		r := NewRecorder(pool, 4096, nil, func() { over <- struct{}{} })
		all = append(all, r)
		for n := range int64(MaxReads + 10) {
			r.Read(time.Now(), 0, n*4096, 4096, Hit)
			r.Arrived(2*n, Asked, "x")
		}
		<-over
		tr := r.Trace(1 << 40)
		most := MaxReads
		if i == maxLarge {
			most = smallReads
		}
		if len(tr.Reads) != most || !tr.Full || len(tr.Arrivals) > MaxArrivals || len(tr.Elsewhere) > MaxArrivals {
			t.Fatalf("recorder %d: %d reads, %d arrivals, full %v", i, len(tr.Reads), len(tr.Arrivals), tr.Full)
		}
		size := len(tr.Reads)*int(reflect.TypeFor[Read]().Size()) + (len(tr.Arrivals)+len(tr.Elsewhere))*int(reflect.TypeFor[Arrival]().Size())
		if size > 1<<20 {
			t.Fatalf("%d bytes in memory", size)
		}
		if i > 0 {
			continue
		}
		if raw, err := tr.Encode(); err != nil || len(raw) > 1<<20 {
			t.Fatalf("%d bytes on disk, %v", len(raw), err)
		}
	}
	for _, r := range all {
		r.Stop()
	}
	if n := pool.large.Load(); n != 0 {
		t.Errorf("%d places are not given back", n)
	}
	var none *Recorder
	none.Read(time.Now(), 0, 0, 1, Hit)
	none.Arrived(0, Asked, "")
	none.Again()
	none.Stop()
	if none.Trace(0) != nil {
		t.Error("no recorder has a trace")
	}
}

func TestForm(t *testing.T) {
	t.Parallel()
	a := &Trace{Size: 1 << 20, Block: 65536, Reads: []Read{{1, 2, 3, 4, Miss}}, Arrivals: []Arrival{}, From: []string{"a"}, Elsewhere: []Arrival{{Block: 2, N: 2, From: 1}}}
	raw, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Decode(raw); err != nil || !reflect.DeepEqual(got, a) {
		t.Errorf("%+v, %v", got, err)
	}
	// What another says takes the place of its own.
	a.Take(&Trace{From: []string{"b", "a"}, Elsewhere: Runs{{Block: 4, N: 1, From: 2}, {Block: 0, N: 1, From: 1}, {Block: 3, N: 2, From: 2}}})
	if want := (Runs{{Block: 0, N: 1, From: 2}, {Block: 3, N: 2, From: 1}}); !reflect.DeepEqual(a.Elsewhere, want) {
		t.Errorf("taken %+v", a.Elsewhere)
	}
}

// TestRuns: of each block the last source counts, whatever the order.
func TestRuns(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	const blocks = 64
	for range 200 {
		var l Runs
		var want, got [blocks]uint8
		for range 60 {
			b, from := rng.Uint32N(blocks), uint8(rng.UintN(4))
			n := 1 + rng.Uint32N(min(8, blocks-b))
			l = l.set(b, n, from)
			for i := range n {
				want[b+i] = from
			}
		}
		for i, a := range l {
			if i > 0 && (a.Block < l[i-1].Block+l[i-1].N || a.Block == l[i-1].Block+l[i-1].N && a.From == l[i-1].From) || a.N == 0 || a.From == 0 {
				t.Fatalf("no runs in order: %+v", l)
			}
			for i := range a.N {
				got[a.Block+i] = a.From
			}
		}
		if got != want {
			t.Fatalf("%v\nwant %v", got, want)
		}
	}
}

// TestSourcesLast: what came before from elsewhere and comes again from the server of
// the feed is told of no more, also after the boot.
func TestSourcesLast(t *testing.T) {
	t.Parallel()
	before := &Trace{From: []string{"unused", "a"}, Elsewhere: Runs{{Block: 2, N: 4, From: 2}}}
	r := NewRecorder(&Pool{}, 65536, func() *Trace { return before }, func() {})
	defer r.Stop()
	if got, want := r.Elsewhere(), (Runs{{Block: 2, N: 4, From: 1}}); !reflect.DeepEqual(got, want) {
		t.Errorf("at first %+v", got)
	}
	r.Arrived(3, Asked, "")
	r.ended.Store(true)
	r.Arrived(5, Rest, "")
	r.Arrived(9, Rest, "b")
	if got, want := r.Elsewhere(), (Runs{{Block: 2, N: 1, From: 1}, {Block: 4, N: 1, From: 1}, {Block: 9, N: 1, From: 2}}); !reflect.DeepEqual(got, want) {
		t.Errorf("then %+v", got)
	}
}

// TestL12Form: what is on the disk, or in a mount, may be anybody's.
func TestL12Form(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*Trace){
		"a read behind the end":     func(t *Trace) { t.Reads[0].Off = t.Size },
		"a read before the start":   func(t *Trace) { t.Reads[0].Off = -1 },
		"an unknown way":            func(t *Trace) { t.Reads[0].How = 9 },
		"a block behind the end":    func(t *Trace) { t.Arrivals[0].N = 1 << 31 },
		"a time before":             func(t *Trace) { t.Arrivals[0].Until = 0 },
		"an unknown source":         func(t *Trace) { t.Arrivals[0].From = 2 },
		"elsewhere from the server": func(t *Trace) { t.Elsewhere[0].From = 0 },
		"no block size":             func(t *Trace) { t.Block = 0 },
		"a negative size":           func(t *Trace) { t.Size = -2 },
		"a long name":               func(t *Trace) { t.From[0] = string(make([]byte, maxLabel+1)) },
		"too many names":            func(t *Trace) { t.From = make([]string, maxFrom+1) },
		"too many reads":            func(t *Trace) { t.Reads = make([]Read, MaxReads+1) },
		"too many runs":             func(t *Trace) { t.Elsewhere = make([]Arrival, MaxArrivals+1) },
	} {
		t2 := &Trace{
			Size: 1 << 20, Block: 65536, From: []string{"x"}, Reads: []Read{{Off: 0, Len: 4096}},
			Arrivals: []Arrival{{At: 1, Until: 1, N: 1}}, Elsewhere: []Arrival{{N: 1, From: 1}},
		}
		if err := t2.Check(); err != nil {
			t.Fatal(err)
		}
		spoil(t2)
		if t2.Check() == nil {
			t.Errorf("%s is taken", name)
		}
		raw, _ := t2.Encode()
		if _, err := Decode(raw); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	bomb, _ := json.Marshal(map[string]any{"verify": string(make([]byte, 1<<20)), "size": 1, "block_size": 4096})
	for _, raw := range [][]byte{nil, []byte("x"), bomb} {
		if _, err := Decode(raw); err == nil {
			t.Errorf("%.10q is read", raw)
		}
	}
}

// TestReadAllocates: a read costs no allocation of its own.
func TestReadAllocates(t *testing.T) {
	r := NewRecorder(&Pool{}, 4096, nil, func() {})
	defer r.Stop()
	if n := testing.AllocsPerRun(2000, func() { r.Read(time.Now(), 0, 0, 4096, Hit) }); n > 0 {
		t.Errorf("%v allocations per read", n)
	}
}
