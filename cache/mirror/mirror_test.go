package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func set(t *testing.T, list ...string) *Set {
	t.Helper()
	s, err := Parse(list, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const one, org = "http://one:8080", "https://e.org:443"

func TestParse(t *testing.T) {
	for _, bad := range []string{"", "rack:8080", "ftp://rack", "http://", "http://u:p@rack", "http://rack?x", "http://rack#x", "http://[::1"} {
		if _, err := Parse([]string{bad}, nil); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	s := set(t, "http://rack/#credentials", "http://rack/", "https://other")
	if len(s.mirrors) != 2 || !s.mirrors[0].Credentials || s.mirrors[1].Credentials {
		t.Errorf("%+v", s.Status())
	}
	if (*Set)(nil).Choose("a", org, true) != nil || (*Set)(nil).Status() != nil {
		t.Error("no set is not empty")
	}
}

// Two mirrors share archives, each host asks the same one, and one that fails leaves the other
// all.
func TestChoose(t *testing.T) {
	s, other := set(t, one, "http://two:8080"), set(t, "http://two:8080", one)
	count := map[string]int{}
	for i := range 1000 {
		key := fmt.Sprint("https://e.org/", i)
		m := s.Choose(key, org, false)
		count[m.name]++
		if at := other.Choose(key, org, false); at.name != m.name {
			t.Fatalf("%s: %s and %s", key, m.name, at.name)
		}
	}
	if count[one] < 400 || count[one] > 600 {
		t.Errorf("%v", count)
	}
	m := s.Choose("k", org, false)
	m.Refused(org, errors.New("status 403"))
	if at := s.Choose("k", org, false); at == m {
		t.Error("a mirror is asked for what it has just refused")
	}
	if at := s.Choose("k", "https://another:443", false); at != m {
		t.Error("it is not asked for what it did not refuse")
	}
}

// A mirror that fails is asked again by a scout alone, ever more seldom, until it answers.
func TestPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		s := set(t, one)
		m := s.Choose("k", org, false)
		var asked []time.Duration
		begun := time.Now()
		var works atomic.Bool
		var mu sync.Mutex // guards asked
		probe := func(context.Context) error {
			mu.Lock()
			asked = append(asked, time.Since(begun))
			mu.Unlock()
			if !works.Load() {
				return errors.New("no")
			}
			return nil
		}
		for range 3 {
			m.Failed(ctx, errors.New("connection refused"), false, probe)
		}
		if s.Choose("k", org, false) != nil || s.Choose("k", org, true) != m {
			t.Error("a mirror that fails is for the case that the origin does too")
		}
		time.Sleep(3100 * time.Millisecond)
		seen := func() []time.Duration {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(asked)
		}
		if fmt.Sprint(seen()) != "[1s 3s]" || s.Status()[0].State != "paused" {
			t.Errorf("asked after %v, %+v", seen(), s.Status())
		}
		works.Store(true)
		time.Sleep(4 * time.Second)
		if len(seen()) != 3 || s.Choose("k", org, false) != m || s.Status()[0].State != "works" {
			t.Errorf("asked after %v, %+v", seen(), s.Status())
		}
		// One that fails soon after a pause of 4 s is paused for 8 s, and later for one.
		for _, c := range []struct{ after, pause time.Duration }{{relapseTime - time.Second, 8 * time.Second}, {relapseTime, time.Second}} {
			time.Sleep(c.after)
			m.Failed(ctx, errors.New("connection refused"), false, probe)
			time.Sleep(c.pause - time.Millisecond)
			if s.Choose("k", org, false) != nil {
				t.Errorf("asked before %v", c.pause)
			}
			time.Sleep(2 * time.Millisecond)
			if s.Choose("k", org, false) != m {
				t.Errorf("paused for more than %v", c.pause)
			}
		}
	})
}

// A mirror is not asked while a block of it is in doubt; a lie bans it, each time twice as long.
func TestLie(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := set(t, one)
		var told atomic.Int32
		s.OnLie(func() { told.Add(1) })
		m := s.Choose("k", org, false)
		settle := m.Accuse()
		if s.Choose("k", org, true) != nil || !m.Doubted() {
			t.Error("an accused mirror is asked")
		}
		settle(false)
		if s.Choose("k", org, false) != m || told.Load() != 0 {
			t.Error("what did not lie is banned")
		}
		for _, span := range []time.Duration{10 * time.Minute, 20 * time.Minute, 40 * time.Minute} {
			a, b := m.Accuse(), m.Accuse() // two blocks of one range are one lie
			a(true)
			b(true)
			time.Sleep(span - time.Second)
			if s.Choose("k", org, true) != nil || s.Status()[0].State != "banned" {
				t.Fatalf("asked again before %v", span)
			}
			time.Sleep(2 * time.Second)
			if s.Choose("k", org, false) != m {
				t.Fatalf("banned for more than %v", span)
			}
		}
		if st := s.Status()[0]; told.Load() != 3 || st.Lies != 3 || st.LastLie == "" {
			t.Errorf("told %d times, %+v", told.Load(), st)
		}
		// Wrong answers count too, but only several of them, near each other.
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		fine := func(context.Context) error { return nil }
		for i := range 4 {
			m.Failed(ctx, ErrBad, true, fine)
			time.Sleep(11 * time.Minute)
			if m.Doubted() {
				t.Fatalf("banned for %d wrong answers in as many tens of minutes", i+1)
			}
		}
		for range 8 { // a cache that was killed in mid-body, and is back soon
			m.Failed(ctx, ErrBad, true, fine)
		}
		time.Sleep(11 * time.Second)
		if m.Doubted() || s.Choose("k", org, false) != m {
			t.Fatal("bodies that broke at once are a lie")
		}
		time.Sleep(11 * time.Minute)
		m.Failed(ctx, ErrBad, true, func(context.Context) error { return ErrBad })
		time.Sleep(31 * time.Second) // the scout has met two more
		if told.Load() != 4 || s.Status()[0].State != "banned" {
			t.Errorf("told %d times, %+v", told.Load(), s.Status()[0])
		}
	})
}
