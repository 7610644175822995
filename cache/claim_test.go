package cache

import (
	"bytes"
	"context"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
)

// TestClaimsOfOthers: a process that is stopped, or slow, holds up another one
// for about a round trip now and then, not for each block. Each case takes well
// under a minute; waiting for each claim would take many.
func TestClaimsOfOthers(t *testing.T) {
	const bs, n = 4096, 1024
	data := truth(n * bs)
	for name, every := range map[string]time.Duration{"stopped": 0, "slow": 2 * time.Second} {
		for _, whole := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				dir := t.TempDir()
				other := newStore(t, store.Options{Dir: dir, SyncEvery: time.Millisecond})
				sf, err := other.File(testKey(1), n*bs, bs)
				if err != nil {
					t.Fatal(err)
				}
				defer sf.Close()
				claims := make([]func(), n)
				for b := range claims {
					var ok bool
					if claims[b], ok = sf.Claim(int64(b)); !ok {
						t.Fatal("claimed already")
					}
				}
				if every > 0 { // it delivers block by block
					stop, done := make(chan struct{}), make(chan struct{})
					defer func() { close(stop); <-done }()
					go func() {
						defer close(done)
						for b := range int64(n) {
							select {
							case <-stop:
								return
							case <-time.After(every):
							}
							if err := sf.WriteBlock(b, data[b*bs:(b+1)*bs]); err != nil {
								t.Error(err)
							}
							claims[b]()
						}
					}()
				}
				spec := Spec{Size: n * bs, BlockSize: bs, Source: &script{data: data}}
				if whole {
					spec.Source, spec.Whole = &forwardScript{script: script{data: data}}, true
				}
				f := mustOpen(t, newCache(t, Options{Store: newStoreAt(t, dir)}), spec)
				wait, cancel := context.WithTimeout(ctx, 5*time.Minute)
				defer cancel()
				p := make([]byte, n*bs)
				if _, err := f.ReadAt(wait, p, 0); err != nil || !bytes.Equal(p, data) {
					t.Fatal(err)
				}
			})
		}
	}
}

// TestClaimIsWaitedFor: a process that delivers is waited for, and its blocks
// are not fetched again.
func TestClaimIsWaitedFor(t *testing.T) {
	const bs = 4096
	data := truth(8 * bs)
	dir := t.TempDir()
	other := newStore(t, store.Options{Dir: dir, SyncEvery: time.Millisecond})
	sf, err := other.File(testKey(1), 8*bs, bs)
	if err != nil {
		t.Fatal(err)
	}
	defer sf.Close()
	release, _ := sf.Claim(2)
	var fetched atomic.Int64
	src := &script{data: data, before: func(_ context.Context, off, _ int64, _ source.Urgency) error {
		if off <= 2*bs {
			fetched.Add(1)
		}
		return nil
	}}
	c := newCache(t, Options{Store: newStoreAt(t, dir), Region: bs, patience: time.Hour})
	f := mustOpen(t, c, Spec{Size: 8 * bs, BlockSize: bs, Source: src})
	got := make(chan error)
	p := make([]byte, bs)
	go func() {
		_, err := f.ReadAt(ctx, p, 2*bs)
		got <- err
	}()
	waitFor(t, func() bool { return waitingNow(f) == 1 })
	if err := sf.WriteBlock(2, data[2*bs:3*bs]); err != nil {
		t.Fatal(err)
	}
	release()
	if err := <-got; err != nil || !bytes.Equal(p, data[2*bs:3*bs]) || fetched.Load() != 0 {
		t.Errorf("%v; fetched %d times", err, fetched.Load())
	}
}
