package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/dustin/go-humanize"

	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
)

// supervisor talks to systemd, or to whoever listens at NOTIFY_SOCKET: ready,
// what the mount is doing, that it still answers, reloading, stopping.
type supervisor struct {
	dir     string
	status  func() catalog.Status
	answers func(context.Context) bool // see fs.Server.Answers; set before run
}

const (
	statusEvery = 10 * time.Second
	// aliveLimit is how long the mount may take to answer a statfs before it
	// counts as hung; it answers from memory.
	aliveLimit = 5 * time.Second
)

// notify sends the states, if there is a listener.
func (s *supervisor) notify(states ...string) (listening bool) {
	listening, _ = daemon.SdNotify(false, strings.Join(states, "\n"))
	return listening
}

func (s *supervisor) ready() { s.notify(daemon.SdNotifyReady, s.line()) }

func (s *supervisor) stopping() (managed bool) {
	return s.notify(daemon.SdNotifyStopping, "STATUS=unmounting "+s.dir)
}

// reload runs refresh between the two states that Type=notify knows it by.
func (s *supervisor) reload(refresh func() error) {
	s.notify(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	_ = refresh() // the outcome is in log and status
	s.ready()
}

// run sends the status now and then, and a sign of life while the mount
// answers, until ctx ends.
func (s *supervisor) run(ctx context.Context) {
	if !s.notify(s.line()) {
		return
	}
	every := statusEvery
	watched, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		watched = 0
	}
	if watched > 0 {
		every = min(every, watched/3)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for said := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if watched > 0 {
			soon, cancel := context.WithTimeout(ctx, min(aliveLimit, watched/3))
			if s.answers(soon) {
				s.notify(daemon.SdNotifyWatchdog)
			}
			cancel()
		}
		if time.Since(said) >= statusEvery {
			s.notify(s.line())
			said = time.Now()
		}
	}
}

// line is STATUS=, which `systemctl status` shows.
func (s *supervisor) line() string { return "STATUS=" + show.Text(summary(s.dir, s.status())) }

// summary is a mount in one line.
func summary(dir string, st catalog.Status) string {
	open, fetching, corrupt := 0, 0, 0
	for _, r := range st.Releases {
		for _, f := range r.Files {
			if f.Open {
				open++
			}
			if f.InFlight > 0 {
				fetching++
			}
			if f.State == "corrupt" {
				corrupt++
			}
		}
	}
	line := fmt.Sprintf("%s: %s, %d open, cache %s", dir, count(len(st.Releases), "release"), open, humanize.IBytes(uint64(st.Cache.Bytes)))
	if st.Cache.Limit > 0 {
		line += fmt.Sprintf(" (%d%%)", 100*st.Cache.Bytes/st.Cache.Limit)
	}
	if fetching > 0 {
		line += fmt.Sprintf(", %d being fetched", fetching)
	}
	if corrupt > 0 {
		line += fmt.Sprintf(", %d CORRUPT", corrupt)
	}
	if st.Cache.Refusing {
		line += "; the cache takes no more: " + refusedBecause(st.Cache)
	}
	if st.Feed.Stale {
		line += "; the feed is stale: " + st.Feed.LastError
	}
	for _, o := range st.Origins {
		if o.Failing {
			line += "; " + o.Origin + " fails: " + o.LastError
		}
	}
	return line
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
