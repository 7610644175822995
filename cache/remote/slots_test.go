package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/testkit"
)

func TestPriorities(t *testing.T) {
	s, _ := serve(t)
	c := client(t, func(o *Options) { o.MaxConns = 4; o.StallTimeout = time.Minute })
	o := open(t, c, s.URL()+"/f")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	take := func(u source.Urgency) io.Closer {
		r, err := o.Fetch(ctx, 0, 200_000, u)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	waiting := func(n int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprint("so many requests wait: ", n), time.Minute, func() bool { return c.Stats()[0].Waiting == n })
	}
	background := take(source.Background) // its quarter
	order := make(chan string, 10)
	later := func(name string, u source.Urgency) {
		n := c.Stats()[0].Waiting + 1
		wg.Go(func() {
			r, err := o.Fetch(ctx, 0, 10, u)
			if err != nil {
				return
			}
			order <- name
			r.Close()
		})
		waiting(n)
	}
	later("background", source.Background) // no more than a quarter
	ahead := []io.Closer{take(source.ReadAhead), take(source.ReadAhead)}
	later("read-ahead", source.ReadAhead) // the last place is for demand
	demand := take(source.Demand)
	later("demand", source.Demand)
	background.Close() // the only one to fit now is demand
	if got := <-order; got != "demand" {
		t.Errorf("%s came first", got)
	}
	demand.Close()
	got := []string{<-order, <-order}
	if fmt.Sprint(got) != "[read-ahead background]" && fmt.Sprint(got) != "[background read-ahead]" {
		t.Errorf("then %v", got)
	}
	for _, a := range ahead {
		a.Close()
	}
	wg.Wait()
	if n := c.Stats()[0].InFlight; n != 0 {
		t.Errorf("%d places not given back", n)
	}
}

func TestQueueOrder(t *testing.T) {
	o := client(t, func(o *Options) { o.MaxConns = 1 }).peer("http://queue:80")
	if err := o.enter(t.Context(), source.Background); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []source.Urgency
	var wg sync.WaitGroup
	for i, u := range []source.Urgency{source.Background, source.ReadAhead, source.Demand, source.ReadAhead, source.Demand} {
		wg.Go(func() {
			if o.enter(t.Context(), u) == nil {
				mu.Lock()
				order = append(order, u)
				mu.Unlock()
				o.leave(u)
			}
		})
		for o.snapshot().Waiting != i+1 {
			time.Sleep(time.Millisecond)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() { gone <- o.enter(ctx, source.Demand) }()
	for o.snapshot().Waiting != 6 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	o.leave(source.Background)
	wg.Wait()
	if fmt.Sprint(order) != "[demand demand readahead readahead background]" || o.snapshot().InFlight != 0 {
		t.Errorf("order %v, %d in flight", order, o.snapshot().InFlight)
	}
}

func TestBandwidth(t *testing.T) {
	s, want := serve(t)
	c := client(t, func(o *Options) { o.Bandwidth = 1_000_000; o.StallTimeout = time.Second })
	o := open(t, c, s.URL()+"/f")
	begun, clock := time.Now(), testkit.StartClock(t)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { mustFetch(t, o, want, 0, 100_000) })
	}
	wg.Wait()
	if took := time.Since(begun); took < 150*time.Millisecond || clock.Elapsed() > time.Minute {
		t.Errorf("200 kB at 1 MB/s took %v", took)
	}
}
