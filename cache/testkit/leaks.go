package testkit

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Settle waits until goleak finds no goroutine that was left, a minute at most. By itself goleak
// waits for half a second, in which a busy machine may not end what is told to end.
func Settle(options ...goleak.Option) {
	for c := newClock(); goleak.Find(options...) != nil && c.Elapsed() < time.Minute; {
		c.look()
	}
}

// Settled are tests after which [Settle] waits, for [goleak.VerifyTestMain].
type Settled struct{ *testing.M }

func (s Settled) Run() int {
	code := s.M.Run()
	if code == 0 {
		Settle()
	}
	return code
}
