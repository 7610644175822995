package origin

import (
	"context"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// coarse is how much of a sleep is left to the precise timer.
const coarse = 3 * time.Millisecond

// alarms are precise timers kept for reuse.
type alarms struct {
	mu   sync.Mutex // guards free
	free []*alarm
}

// An alarm is a timerfd whose expiry the runtime's poller waits for.
type alarm struct {
	file *os.File
	fd   int
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &alarm{os.NewFile(uintptr(fd), "timerfd"), fd}, nil
}

func (a *alarm) sleep(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(a.fd, 0, &spec, nil); err != nil {
		return err
	}
	var expirations [8]byte
	_, err := a.file.Read(expirations[:])
	return err
}

// sleepUntil returns at t, some 50 µs late on an idle machine, or earlier with an
// error once ctx ends.
func (p *alarms) sleepUntil(ctx context.Context, t time.Time) error {
	if d := time.Until(t); d > 2*coarse {
		timer := time.NewTimer(d - coarse)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d := time.Until(t)
	if d <= 0 {
		return ctx.Err()
	}
	a := p.get()
	if a == nil || a.sleep(d) != nil {
		time.Sleep(time.Until(t))
	}
	p.put(a)
	return ctx.Err()
}

func (p *alarms) get() *alarm {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		a := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return a
	}
	p.mu.Unlock()
	a, err := newAlarm()
	if err != nil {
		return nil
	}
	return a
}

func (p *alarms) put(a *alarm) {
	if a == nil {
		return
	}
	p.mu.Lock()
	p.free = append(p.free, a)
	p.mu.Unlock()
}

func (p *alarms) close() {
	p.mu.Lock()
	free := p.free
	p.free = nil
	p.mu.Unlock()
	for _, a := range free {
		a.file.Close()
	}
}
