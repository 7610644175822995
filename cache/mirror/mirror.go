package mirror

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/feed/show"
)

// How long a mirror is not asked.
const (
	firstPause, longestPause = time.Second, 5 * time.Minute
	// relapseTime after a pause, a mirror that fails is paused for twice as long.
	relapseTime          = time.Minute
	refusedPause         = time.Minute
	lacksPause           = 10 * time.Second
	firstBan, longestBan = 10 * time.Minute, 24 * time.Hour
	// maxStrikes bad answers within strikeTime count as a lie.
	maxStrikes, strikeTime = 3, 10 * time.Minute
	// maxRefused bounds the origins that are remembered as refused.
	maxRefused = 64
	// logPause is how long the log does not repeat that a mirror fails.
	logPause = time.Minute
)

// A Mirror is one cache.
type Mirror struct {
	base *url.URL // without userinfo and fragment
	// Credentials: it may see what the origin of an object may see.
	Credentials bool
	name        string
	log         *slog.Logger
	lied        *atomic.Pointer[func()] // told of each lie

	mu       sync.Mutex // guards all below; a leaf
	bytes    int64
	paused   time.Time     // until a scout goes; zero: it works
	pause    time.Duration // the latest one
	resumed  time.Time     // when that ended
	lastErr  string
	lastTime time.Time
	spoke    time.Time
	refused  map[string]time.Time // until when, by origin
	accused  int
	strikes  []time.Time
	lies     int
	lie      string
	lieTime  time.Time
	banned   time.Time // until when
}

// Name is its address.
func (m *Mirror) Name() string { return m.name }

// URL returns where the mirror has an object; ok is false if it cannot be asked for it.
func (m *Mirror) URL(to *url.URL) (at *url.URL, ok bool) { return MapURL(m.base, to) }

// works reports whether the mirror may be asked for objects of an origin. With lenient it
// may be one that fails.
func (m *Mirror) works(origin string, lenient bool, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.accused == 0 && now.After(m.banned) && (lenient || m.paused.IsZero() && now.After(m.refused[origin]))
}

// Doubted reports whether what the mirror is sending should not be waited for: it is accused or
// banned.
func (m *Mirror) Doubted() bool { return !m.works("", true, time.Now()) }

// Served counts n bytes that came from the mirror.
func (m *Mirror) Served(n int) {
	m.mu.Lock()
	m.bytes += int64(n)
	m.mu.Unlock()
}

// Refused is told that the mirror does not give objects of an origin.
func (m *Mirror) Refused(origin string, why error) { m.without(origin, why, refusedPause) }

// Lacks is told that the mirror cannot reach an origin for what it has not got. If that origin
// fails here too, the mirror is asked for what else it may have.
func (m *Mirror) Lacks(origin string, why error) { m.without(origin, why, lacksPause) }

// without has the mirror not asked for objects of an origin for a time.
func (m *Mirror) without(origin string, why error, span time.Duration) {
	m.mu.Lock()
	now := time.Now()
	for old := range m.refused {
		if len(m.refused) < maxRefused {
			break
		}
		delete(m.refused, old)
	}
	m.refused[origin] = now.Add(span)
	tell := m.failed(why, now)
	m.mu.Unlock()
	if tell {
		m.log.Warn("a mirror does not give what is asked for; the origin is asked", "mirror", m.name, "origin", origin, "err", why)
	}
}

// failed notes an error, and reports whether the log is told; mu is held.
func (m *Mirror) failed(why error, now time.Time) bool {
	m.lastErr, m.lastTime = why.Error(), now
	tell := now.Sub(m.spoke) >= logPause
	if tell {
		m.spoke = now
	}
	return tell
}

// Failed is told that the mirror did not answer, or broke off. bad: it answered something
// else than what it was asked for. probe asks it for the same again; it is called by a scout,
// until it returns nil or ctx ends.
func (m *Mirror) Failed(ctx context.Context, why error, bad bool, probe func(ctx context.Context) error) {
	m.mu.Lock()
	now := time.Now()
	tell := m.failed(why, now)
	scout := m.paused.IsZero()
	if scout {
		m.pause = longer(m.pause)
		if now.Sub(m.resumed) >= relapseTime {
			m.pause = firstPause
		}
		m.paused = now.Add(m.pause)
	}
	m.mu.Unlock()
	if bad && scout { // a cache that is killed breaks all its bodies at once, which is one strike
		m.strike(why, now)
	}
	if tell {
		m.log.Warn("a mirror fails; the origin is asked", "mirror", m.name, "err", why)
	}
	if scout {
		go m.scout(ctx, probe)
	}
}

// ErrBad is wrapped by what a probe returns when the mirror answered something else than what
// it was asked for.
var ErrBad = errors.New("the mirror's answer is not what it was asked for")

// scout asks a paused mirror until it answers well.
func (m *Mirror) scout(ctx context.Context, probe func(ctx context.Context) error) {
	for {
		m.mu.Lock()
		wait := max(time.Until(m.paused), time.Until(m.banned))
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		err := probe(ctx)
		if ctx.Err() != nil {
			return
		}
		m.mu.Lock()
		now := time.Now()
		if err == nil {
			m.paused, m.resumed = time.Time{}, now
			m.mu.Unlock()
			m.log.Info("a mirror works again", "mirror", m.name)
			return
		}
		m.failed(err, now)
		m.pause = longer(m.pause)
		m.paused = now.Add(m.pause)
		m.mu.Unlock()
		if errors.Is(err, ErrBad) {
			m.strike(err, now)
		}
	}
}

// longer is the pause that comes after one in vain.
func longer(pause time.Duration) time.Duration { return min(2*pause, longestPause) }

// strike counts an answer that was not what was asked for.
func (m *Mirror) strike(why error, now time.Time) {
	m.mu.Lock()
	m.strikes = append(m.strikes, now)
	for now.Sub(m.strikes[0]) > strikeTime {
		m.strikes = m.strikes[1:]
	}
	over := len(m.strikes) >= maxStrikes
	m.mu.Unlock()
	if over {
		m.ban(why.Error())
	}
}

// Accuse says that a block that came from the mirror does not match its sum. The mirror is not
// asked before settle has been called, with what the origin's block has shown. It implements
// source.Supplier.
func (m *Mirror) Accuse() (settle func(lied bool)) {
	m.mu.Lock()
	m.accused++
	m.mu.Unlock()
	return func(lied bool) {
		if lied {
			m.ban("a block did not match its sum, and the origin's did")
		}
		m.mu.Lock()
		m.accused--
		m.mu.Unlock()
	}
}

// ban keeps the mirror out for a time.
func (m *Mirror) ban(why string) {
	m.mu.Lock()
	now := time.Now()
	if now.Before(m.banned) { // it was under way already
		m.mu.Unlock()
		return
	}
	span := min(firstBan<<min(m.lies, 16), longestBan)
	m.lies++
	m.lie, m.lieTime, m.banned, m.strikes = why, now, now.Add(span), nil
	m.mu.Unlock()
	m.log.Error("a mirror has lied; it is not asked for a while", "mirror", m.name, "why", why, "ban", span)
	if lied := m.lied.Load(); lied != nil {
		(*lied)()
	}
}

// Status is what is known of a mirror.
type Status struct {
	URL         string    `json:"url"`
	State       string    `json:"state"` // works, paused, accused, banned
	Bytes       int64     `json:"bytes"` // that came from it
	Lies        int       `json:"lies"`
	LastLie     string    `json:"last_lie,omitempty"`
	LastLieTime time.Time `json:"last_lie_at,omitzero"`
	Until       time.Time `json:"until,omitzero"` // of a pause or a ban
	LastError   string    `json:"last_error,omitempty"`
	LastTime    time.Time `json:"last_error_at,omitzero"`
}

func (m *Mirror) status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		URL: m.name, State: "works", Bytes: m.bytes, Lies: m.lies, LastLie: m.lie, LastLieTime: m.lieTime,
		LastError: show.Text(m.lastErr), LastTime: m.lastTime,
	}
	switch now := time.Now(); {
	case now.Before(m.banned):
		s.State, s.Until = "banned", m.banned
	case m.accused > 0:
		s.State = "accused"
	case !m.paused.IsZero():
		s.State, s.Until = "paused", m.paused
	}
	return s
}
