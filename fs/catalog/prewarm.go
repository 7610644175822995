package catalog

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
)

// warmRetry is the pause before a release is tried again that could not be warmed.
const warmRetry = 2 * time.Minute

// WarmStatus says how far the newest release is here before anyone boots it.
type WarmStatus struct {
	State string `json:"state"`           // fetching, done, unknown (nothing tells what a boot reads), limit, full, failed
	Bytes int64  `json:"bytes"`           // fetched for its boot, in this process
	Error string `json:"error,omitempty"` // why it failed, or is full
}

// warmer fetches what a boot of the newest release is going to read. Catalog.settling
// guards last, ended, again and alarm.
type warmer struct {
	how   string
	limit int64
	run   func(func(context.Context)) bool
	done  func()
	log   *slog.Logger

	last  *Release  // that was begun
	ended chan bool // gets whether it succeeded; nil: nothing is under way
	again time.Time // not before that

	alarm *time.Timer // has another look made when a release may be the newest by its date; nil: there was none
}

// alarmEvery bounds how long such a look is waited for, as a clock may be set.
const alarmEvery = time.Hour

// next begins with the newest release, once for each.
func (w *warmer) next(s *Snapshot) {
	if w.alarm != nil {
		w.alarm.Stop()
	}
	if until := s.feed.NewestUntil(time.Now()); !until.IsZero() {
		w.alarm = time.AfterFunc(min(time.Until(until)+time.Millisecond, alarmEvery), w.done)
	}
	if w.ended != nil {
		select {
		case ok := <-w.ended:
			if w.ended = nil; !ok {
				w.last, w.again = nil, time.Now().Add(warmRetry)
			}
		default:
			return
		}
	}
	r := s.Latest()
	if r == nil || r == w.last || w.how != "boot" && w.how != "all" || time.Now().Before(w.again) {
		return
	}
	ended := make(chan bool, 1)
	if w.run(func(ctx context.Context) { ended <- w.warm(ctx, s, r); w.done() }) {
		w.last, w.ended = r, ended
	}
}

func (w *warmer) warm(ctx context.Context, s *Snapshot, r *Release) (ok bool) {
	st := WarmStatus{State: "fetching"}
	tell := func() {
		now := st
		r.mu.Lock()
		r.warm = &now
		r.mu.Unlock()
		r.around.changed()
	}
	tell()
	defer tell()
	fail := func(err error) bool {
		st.State, st.Error = "failed", err.Error()
		if errors.Is(err, store.ErrFull) {
			st.State = "full"
		}
		w.log.Debug("the newest release is not warm", "release", r.Name(), "err", err)
		return st.State == "full"
	}
	p, err := r.Package(ctx)
	if err != nil {
		return fail(err)
	}
	if why := p.Refusal(); why != "" {
		return fail(errors.New(why))
	}
	defer runtime.KeepAlive(p) // a release has one package at a time
	result := "unknown"
	for _, f := range p.All() {
		switch {
		case !f.Status().Image:
		case w.how == "all":
			if err := complete(ctx, f); err != nil {
				return fail(err)
			}
			result = "done"
		case st.Bytes >= w.limit:
			result = "limit"
		default:
			got, known, err := f.Warm(ctx, w.limit-st.Bytes)
			if st.Bytes += got; err != nil {
				return fail(err)
			}
			if known {
				result = "done"
			}
			tell()
		}
	}
	if st.State = result; st.Bytes >= w.limit && w.how == "boot" {
		st.State = "limit"
	}
	return true
}

// maxOlder is how many releases that were used here are looked through: each costs a look
// at the disk.
const maxOlder = 64

// older finds the newest release other than r of which a file of that name was booted
// on this host.
func older(ctx context.Context, s *Snapshot, st *store.Store, r *Release, file string) (b image.Booted, ok bool) {
	booted := func(key store.Key) bool { return image.HasBooted(st, key) }
	looked := 0
	for _, old := range s.All() {
		p, loaded := old.Peek()
		if old == r || !loaded && !isKept(old) {
			continue
		}
		if looked++; looked > maxOlder {
			break
		}
		if images := keptImages(old); !loaded && (images == nil || slices.ContainsFunc(images, booted)) {
			p = local(ctx, old)
		}
		if p == nil {
			continue
		}
		for _, f := range p.All() {
			if key := f.CacheKey(); f.Name() == file && key != "" && booted(key) {
				return image.Booted{Key: key, Size: f.Size()}, true
			}
		}
	}
	return b, false
}
