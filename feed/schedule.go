package feed

import (
	"strconv"
	"strings"
	"time"
)

// Bounds of the time between two polls.
const (
	defaultInterval = time.Hour        // when neither feed nor server says anything
	minInterval     = time.Minute      // whatever they say
	maxInterval     = 24 * time.Hour   // whatever they say
	localInterval   = 10 * time.Second // of a feed that is a local file
	firstRetry      = 10 * time.Second // after the first failure; doubles with each
	maxRetry        = 15 * time.Minute // at most, unless the server asks for more
	maxRetryAfter   = time.Hour        // of what the server asks
)

// skipTimes is when a channel asks not to be polled: skipHours and skipDays of RSS
// 2.0, in UTC. The zero value skips nothing.
type skipTimes struct {
	hours uint32 // bit h: not from h:00 to h:59
	days  uint8  // bit d: not on day d, Sunday being 0
}

// parseSkip reads the hints. Those that leave no time at all are ignored.
func parseSkip(hours, days []string) (s skipTimes) {
	for _, h := range hours {
		if n, err := strconv.Atoi(strings.TrimSpace(h)); err == nil && n >= 0 && n <= 24 {
			s.hours |= 1 << (n % 24) // RSS 0.91 counts from 1 to 24
		}
	}
	for _, d := range days {
		for w := time.Sunday; w <= time.Saturday; w++ {
			if strings.EqualFold(strings.TrimSpace(d), w.String()) {
				s.days |= 1 << w
			}
		}
	}
	if s.hours == 1<<24-1 {
		s.hours = 0
	}
	if s.days == 1<<7-1 {
		s.days = 0
	}
	return s
}

// next is the first moment at or after t that is not skipped.
func (s skipTimes) next(t time.Time) time.Time {
	u := t.UTC()
	for range 24 * 7 {
		if s.hours&(1<<u.Hour()) == 0 && s.days&(1<<u.Weekday()) == 0 {
			return u.In(t.Location())
		}
		u = u.Truncate(time.Hour).Add(time.Hour)
	}
	return t
}

// retryDelay is how long to wait after so many failures in a row, 1 or more.
func retryDelay(failures int) time.Duration {
	return min(firstRetry<<min(failures-1, 20), maxRetry)
}
