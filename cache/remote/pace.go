package remote

import (
	"net/http"
	"time"
)

const (
	// firstGap bounds the first gap between requests after a refusal.
	minFirstGap, maxFirstGap = 20 * time.Millisecond, 250 * time.Millisecond
	// maxGap is the longest gap.
	maxGap = 2 * time.Second
	// minHold and maxHold bound how long a refusal stops all requests to its origin: it
	// doubles with each in a row.
	minHold, maxHold = 250 * time.Millisecond, 2 * time.Second
	// outage is how many refusals in a row tell an origin that is down from a busy one.
	outage = 5
	// maxGood is how many good answers are remembered.
	maxGood = 100
	// forgetTime is how long without a refusal an origin is taken to bear more again.
	forgetTime = 30 * time.Second
)

// A pace is how many requests an origin bears, at once and in time. Refusals teach it (status
// 429 and 503). Each halves the number at once and widens the gap between two requests; good
// answers undo both slowly. An origin that refuses nothing is not paced. The caller holds the
// lock that guards it.
type pace struct {
	most   int     // requests at once, ever
	window float64 // requests at once, now
	gap    time.Duration
	floor  time.Duration // a gap that was too short; 0: not known
	crowd  int           // so many requests at once were too many; 0: not known
	row    int           // refusals since the last good answer
	next   time.Time     // no request starts before
	learnt time.Time     // when a refusal last changed the pace
	good   []time.Time   // answers of the last second
}

// places is how many requests may be under way.
func (p *pace) places() int { return max(int(p.window), 1) }

// wait is how long the next request has to wait.
func (p *pace) wait(now time.Time) time.Duration { return p.next.Sub(now) }

// started says that a request starts.
func (p *pace) started(now time.Time) {
	if p.gap > 0 {
		p.next = now.Add(p.gap)
	}
}

// refuses reports whether a status says that there are too many requests.
func refuses(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable
}

// answered takes the answer to a request that started at a time, as one of so many at once.
func (p *pace) answered(status int, started time.Time, atOnce int, now time.Time) {
	switch {
	case !refuses(status):
		p.succeeded(now)
	case started.After(p.learnt): // else it was under way when the pace was learnt
		p.refused(atOnce, now)
	}
}

func (p *pace) succeeded(now time.Time) {
	if p.row >= outage {
		p.gap, p.floor = 0, 0 // it was down, and not busy
	}
	if p.row > 0 {
		p.row = 0
		if soon := now.Add(p.gap); soon.Before(p.next) {
			p.next = soon
		}
	}
	most := p.most
	if now.Sub(p.learnt) > forgetTime {
		p.floor, p.crowd = 0, 0
	} else if p.crowd > 0 {
		most = min(most, p.crowd-1)
	}
	p.window = min(p.window+1/p.window, float64(most))
	for len(p.good) > 0 && (now.Sub(p.good[0]) > time.Second || len(p.good) == maxGood) {
		p.good = p.good[1:]
	}
	p.good = append(p.good, now)
	if p.floor > 0 {
		least := p.floor + p.floor/20
		p.gap = max(least, p.gap-(p.gap-least)/8)
	} else if p.gap = p.gap * 7 / 8; p.gap < time.Millisecond {
		p.gap = 0
	}
}

// refused slows down. Of refusals in a row the first tells that there were too many at once,
// or that the gap was too short if the request was alone. The others only tell that the
// origin needs a pause.
func (p *pace) refused(atOnce int, now time.Time) {
	again := now.Sub(p.learnt) < forgetTime
	p.learnt = now
	if p.row++; p.row == 1 {
		p.window = max(p.window/2, 1)
		borne := min(max(time.Second/time.Duration(max(len(p.good), 1)), minFirstGap), maxFirstGap)
		if again && atOnce > 1 {
			p.crowd = atOnce
		} else if p.gap > 0 {
			p.floor = max(p.gap, min(borne, p.gap+p.gap/6))
			p.gap = min(p.floor+p.floor/4, maxGap)
		} else {
			p.gap = borne
		}
	}
	hold := min(minHold<<min(p.row-1, outage), maxHold)
	p.next = now.Add(max(hold, p.gap))
}
