package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"
)

const (
	repeatQuiet = time.Minute // how long the same warning or error is not said again
	repeatMost  = 20          // ... and how many with one message but different details are, in that time
	repeatKeys  = 512         // how many are remembered
)

// repeatHandler drops warnings and errors that were logged a short time ago,
// and says how many when it lets one through again: a server that is down for a
// night must not fill the disk with it.
type repeatHandler struct {
	slog.Handler
	seen *repeats
}

func newRepeatHandler(h slog.Handler) *repeatHandler {
	return &repeatHandler{h, &repeats{same: make(map[string]*repeat), alike: make(map[string]*repeat)}}
}

// repeats is what was logged lately: by message and details, and by message
// alone. mu guards both maps and what they point to; a leaf.
type repeats struct {
	mu          sync.Mutex
	same, alike map[string]*repeat
}

type repeat struct {
	since   time.Time
	let     int // through, since then
	dropped int
}

func (h *repeatHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &repeatHandler{h.Handler.WithAttrs(attrs), h.seen}
}

func (h *repeatHandler) WithGroup(name string) slog.Handler {
	return &repeatHandler{h.Handler.WithGroup(name), h.seen}
}

func (h *repeatHandler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn {
		return h.Handler.Handle(ctx, r)
	}
	var key strings.Builder
	key.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		// Where in a file something went wrong makes it no other thing.
		if k := a.Value.Kind(); k == slog.KindString || k == slog.KindAny {
			key.WriteString("\x00" + a.Key + "=" + a.Value.String())
		}
		return true
	})
	dropped, ok := h.seen.allow(r.Time, key.String(), r.Message)
	if !ok {
		return nil
	}
	if dropped > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("repeated", dropped))
	}
	return h.Handler.Handle(ctx, r)
}

// allow tells whether to log, and how many of the same were dropped before.
func (s *repeats) allow(now time.Time, key, message string) (dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same, ok := allow(s.same, now, key, 1)
	if !ok {
		return 0, false
	}
	alike, ok := allow(s.alike, now, message, repeatMost)
	return same + alike, ok
}

func allow(seen map[string]*repeat, now time.Time, key string, most int) (dropped int, ok bool) {
	r := seen[key]
	switch {
	case r == nil:
		if len(seen) >= repeatKeys {
			forget(seen, now)
		}
		seen[key] = &repeat{since: now, let: 1}
		return 0, true
	case now.Sub(r.since) >= repeatQuiet:
		dropped = r.dropped
		*r = repeat{since: now, let: 1}
		return dropped, true
	case r.let < most:
		r.let++
		return 0, true
	}
	r.dropped++
	return 0, false
}

// forget drops what is old, or everything.
func forget(seen map[string]*repeat, now time.Time) {
	for key, r := range seen {
		if now.Sub(r.since) >= repeatQuiet {
			delete(seen, key)
		}
	}
	if len(seen) >= repeatKeys {
		clear(seen)
	}
}
