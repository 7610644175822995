package archive

import (
	"context"
	"testing"
)

// TestLinger: one goroutine waits, however many archives are read in turn, and one file
// stays open for all of them.
func TestLinger(t *testing.T) {
	var waits []func(context.Context)
	l := NewLinger(func(wait func(context.Context)) bool {
		waits = append(waits, wait)
		return true
	})
	one, two := &streamed{opens: 1}, &streamed{opens: 1} // each is open for its reader
	open := func(want1, want2 int) {
		t.Helper()
		if one.opens != want1 || two.opens != want2 {
			t.Errorf("open %d and %d times, want %d and %d", one.opens, two.opens, want1, want2)
		}
	}
	for range 100 {
		l.keep(one)
		open(2, 1)
		l.keep(one)
		open(2, 1)
		l.keep(two)
		open(1, 2)
	}
	if len(waits) != 1 {
		t.Fatalf("%d goroutines wait", len(waits))
	}
	if l.end(piecesLinger) {
		t.Error("what was just used is given up")
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	waits[0](over)
	open(1, 1)
	l.keep(one)
	open(2, 1)
	if len(waits) != 2 {
		t.Error("nobody waits any more")
	}
	l.run = func(func(context.Context)) bool { return false } // the catalog ends
	l.end(0)
	l.keep(two)
	open(1, 1)
}
