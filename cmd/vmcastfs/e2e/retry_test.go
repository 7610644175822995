package e2e

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestFirstMountAsksAgain: a server that is busy just now does not end the first
// mount of a feed in the background. In the foreground it does, unless retry= is given.
func TestFirstMountAsksAgain(t *testing.T) {
	t.Parallel()
	disk := noise(100_000, 9)
	busy := origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503, RetryAfter: "1", Times: 2}
	limited := origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 429, Times: 2}
	for name, c := range map[string]struct {
		fault origin.Fault
		args  []string
		opts  string // "": the default
		fails string // what the message says; "": it mounts
		asked int64
	}{
		"503 in the background":  {busy, []string{"mount"}, "", "", 3},
		"429 in the background":  {limited, []string{"mount"}, "", "", 3},
		"refused for longer":     {busy, []string{"mount"}, ",retry=0", "503", 1},
		"in the foreground":      {busy, []string{"mount", "-f"}, "", "503", 1},
		"asked for":              {busy, []string{"mount", "-f"}, ",retry=30s", "", 3},
		"what does not pass":     {origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 403}, []string{"mount"}, "", "403", 1},
		"asked to wait too long": {origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503, RetryAfter: "7200"}, []string{"mount"}, "", "503", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			w.publish("one", packListed(t, member{"disk.img", disk}))
			w.origin.Inject(c.fault)
			list := strings.TrimPrefix(w.options(), "retry=0,") + c.opts
			args := append(c.args, "-o", list, w.feed, w.dir)
			if len(c.args) > 1 && c.fails == "" { // it stays
				cmd := exec.Command(binary, args...)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				defer func() { _ = cmd.Wait() }()
				testkit.Eventually(t, "it is mounted", time.Minute, func() bool { _, err := os.Lstat(w.path("one")); return err == nil })
			} else if out, err := w.run(args...); (err == nil) != (c.fails == "") || strings.Contains(out, "asking again") != (c.fails == "") || !strings.Contains(out, c.fails) || c.fails != "" && exitCode(err) != exitMount {
				t.Fatalf("%v\n%s", err, out)
			}
			if c.fails == "" {
				w.wantFile(disk, "one", "disk.img")
				if out, err := w.run("umount", w.dir); err != nil {
					t.Errorf("umount: %v\n%s", err, out)
				}
			}
			if n := w.origin.Stats(appliance.FeedPath).Requests; n < c.asked || c.fails != "" && n != c.asked {
				t.Errorf("the feed was asked for %d times, want %d", n, c.asked)
			}
		})
	}

	// Whoever does not want to wait stops it with a signal.
	w := bareWorld(t)
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503})
	cmd := exec.Command(binary, "mount", "-o", strings.TrimPrefix(w.options(), "retry=0,"), w.feed, w.dir)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the feed is asked for", time.Minute, func() bool { return w.origin.Stats(appliance.FeedPath).Requests > 0 })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); exitCode(err) != 8 {
		t.Errorf("a mount that was stopped: %v", err)
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) > 0 {
		t.Errorf("something is left on the mount point: %v, %v", entries, err)
	}
}

// TestFeedRetryAfter: a server that asks for patience with its feed gets it.
func TestFeedRetryAfter(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", noise(1000, 1)}))
	w.mount("refresh=1h")
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503, RetryAfter: "1234"})
	w.refresh()
	testkit.Eventually(t, "the next look comes when the server allows it", time.Minute, func() bool {
		feed := w.status().Feed
		if feed.Next == nil || !feed.Stale {
			return false
		}
		wait := feed.Next.Sub(*feed.LastAttempt)
		return wait >= 1234*time.Second && wait < 1300*time.Second
	})
}
