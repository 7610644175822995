package store

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The map agrees with the simplest thing that could be one.
func TestBlockMapAgainstModel(t *testing.T) {
	t.Parallel()
	const end = 3*pageBlocks + 100
	type state struct {
		present, zero bool
		sum           uint32
	}
	var m blockMap
	model := make([]state, end)
	r := rand.New(rand.NewPCG(1, 2))
	for step := range 3000 {
		b := r.Int64N(end)
		n := min(1+r.Int64N(1<<r.IntN(11)), end-b)
		switch r.IntN(4) {
		case 0, 1:
			m.set(b, uint32(step))
			model[b] = state{true, false, uint32(step)}
		case 2:
			m.setZeros(b, n)
			for i := b; i < b+n; i++ {
				model[i] = state{true, true, 0}
			}
		case 3:
			m.drop(b, n)
			for i := b; i < b+n; i++ {
				model[i] = state{}
			}
		}
		if step%50 != 0 {
			continue
		}
		var present, zeros int64
		next := [4]int64{end, end, end, end}
		for i := int64(end) - 1; i >= 0; i-- {
			s := model[i]
			if s.present {
				present++
				next[0] = i
			} else {
				next[1] = i
			}
			if s.zero {
				zeros++
				next[2] = i
			} else {
				next[3] = i
			}
			sum, zero, ok := m.get(i)
			if (state{ok, zero, sum}) != s {
				t.Fatalf("step %d block %d: %v %v %v, want %+v", step, i, sum, zero, ok, s)
			}
			got := [4]int64{m.next(i, end, presentWord), m.next(i, end, missingWord), m.next(i, end, zeroWord), m.next(i, end, nonzeroWord)}
			if got != next {
				t.Fatalf("step %d block %d: next %v, want %v", step, i, got, next)
			}
		}
		if m.present != present || m.zeros != zeros {
			t.Fatalf("step %d: counts %d %d, want %d %d", step, m.present, m.zeros, present, zeros)
		}
	}
}

func TestEras(t *testing.T) {
	t.Parallel()
	var m blockMap
	for b := range int64(4) {
		m.set(b, 1)
	}
	m.setZeros(3, 1)
	m.use(0)
	m.age()
	m.use(1)
	if b := m.next(0, 10, coldWord); b != 2 {
		t.Errorf("cold: %d", b)
	}
	m.age()
	if b := m.next(0, 10, coldWord); b != 0 {
		t.Errorf("cold: %d", b)
	}
	if b := m.next(1, 10, coldWord); b != 2 {
		t.Errorf("cold: %d", b)
	}
}

// A package may have a sparse image of any size up to the limit: its holes must cost next to nothing.
func TestT10HolesAreSmall(t *testing.T) {
	m := newMapping(64 << 10)
	if !m.apply(record{kind: kindSize, pos: MaxSize}) {
		t.Fatal("the greatest size is refused")
	}
	blocks := m.end()
	before := testing.AllocsPerRun(1, func() { // pages would be a million allocations
		m.drop(0, MaxBlocks)
		m.setZeros(1, blocks-1)
		m.set(blocks/2, 7)
		m.drop(blocks/4, 1)
	})
	if before > 100 {
		t.Errorf("%v allocations for a hole of %d bytes", before, int64(MaxSize))
	}
	if m.present != blocks-2 || m.zeros != blocks-3 {
		t.Errorf("%d present, %d zeros of %d", m.present, m.zeros, blocks)
	}
	if got := m.next(1, blocks, missingWord); got != blocks/4 {
		t.Errorf("next missing is %d", got)
	}
	enc := m.encode(header{key: key("f"), blockSize: 64 << 10, salt: 1}, nil)
	if len(enc) > 300 {
		t.Errorf("the journal takes %d bytes", len(enc))
	}
	again := newMapping(64 << 10)
	if _, damaged, err := replay(bytes.NewReader(enc), 1, headerSize, int64(len(enc)), func(rs []record) {
		for _, r := range rs {
			again.apply(r)
		}
	}); damaged || err != nil || again.present != m.present || again.zeros != m.zeros {
		t.Errorf("%v %v: %d present, %d zeros", damaged, err, again.present, again.zeros)
	}
}
