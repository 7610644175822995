package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// What a mount does when the network goes. The table of outages is used by
// hard and by soft mounts alike.

// outage makes the network of a world go; it returns what brings it back.
type outage func(w *world) (end func())

// fault is an outage that the origin makes.
func fault(f origin.Fault) outage {
	return func(w *world) func() { return w.origin.Inject(f) }
}

func outages() map[string]outage {
	return map[string]outage{
		"connection refused": func(w *world) func() {
			w.origin.Down()
			return func() {
				if err := w.origin.Start(); err != nil {
					w.t.Error(err)
				}
			}
		},
		"no answer":              fault(origin.Fault{Kind: origin.Hang}),
		"silence in the body":    fault(origin.Fault{Kind: origin.Stall, After: 1000}),
		"connections reset":      fault(origin.Fault{Kind: origin.Drop}),
		"bodies reset":           fault(origin.Fault{Kind: origin.Reset, After: 1000}),
		"bodies cut off":         fault(origin.Fault{Kind: origin.Truncate, After: 1000}),
		"storm of 503":           fault(origin.Fault{Kind: origin.Status, Status: 503}),
		"503 with Retry-After":   fault(origin.Fault{Kind: origin.Status, Status: 503, RetryAfter: "2"}),
		"429 with Retry-After":   fault(origin.Fault{Kind: origin.Status, Status: 429, RetryAfter: "2"}),
		"connections half open":  func(w *world) func() { return w.relay.freeze() },
		"dripping byte by byte":  fault(origin.Fault{Kind: origin.DripFeed, After: 1000, Delay: 50 * time.Millisecond}),
		"500 from a broken disk": fault(origin.Fault{Kind: origin.Status, Status: 500}),
	}
}

// TestOutageHard: a read waits, everything that needs no network goes on, and
// once the network is back the read ends by itself, soon and right.
func TestOutageHard(t *testing.T) {
	t.Parallel()
	disk := noise(12<<20, 20)
	archive := packListed(t, member{"disk.img", disk})
	together(t, outages(), func(t *testing.T, begin outage) {
		w := relayedWorld(t)
		w.publish("one", archive)
		w.publish("two", archive)
		w.mount("complete=off", "stall=1s")
		f := w.open("one", "disk.img")
		w.wantAt(f, disk, 0)

		end := begin(w)
		reads := make(chan error, 4)
		for i := range cap(reads) {
			go func() { reads <- compareAt(f, disk, int64(i+1)*(2<<20)) }()
		}
		ended := time.Now().Add(3 * time.Second)
		for time.Now().Before(ended) {
			w.atOnce("one", "disk.img")
			w.wantAt(f, disk, 4096) // what is cached is served
			time.Sleep(50 * time.Millisecond)
		}
		select {
		case err := <-reads:
			t.Fatalf("a read did not wait: %v", err)
		default:
		}
		w.slowListing("two")
		testkit.Eventually(t, "the status tells of the outage", time.Minute, func() bool {
			st := w.status()
			return st.Feed.LastError != "" || anyFailing(st.Origins)
		})

		end()
		back := time.Now()
		for range cap(reads) {
			if err := testkit.Receive(t, "the reads that waited end", time.Minute, reads); err != nil {
				t.Errorf("a read that waited: %v", err)
			}
		}
		// How soon: TestHardMeansWait.
		t.Logf("the last read ended %s after the network was back", time.Since(back).Round(time.Millisecond))
		testkit.Eventually(t, "the other release is listed", time.Minute, func() bool {
			_, err := os.ReadDir(w.path("two"))
			return err == nil
		})
	})
}

// TestHardAnswers: an answer that may pass is waited for like silence. Cached blocks are
// served, the log says why reads wait, and they end soon and right once it has passed.
func TestHardAnswers(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 20)
	archive := packListed(t, member{"disk.img", disk})
	page := func(w *world) func() {
		w.origin.PutBytes("/login", []byte("<html>please log in</html>"))
		w.origin.SetHeader("/login", "Content-Type", "text/html")
		return w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/login"})
	}
	together(t, map[string]outage{
		"401":            fault(origin.Fault{Kind: origin.Status, Status: 401}),
		"403":            fault(origin.Fault{Kind: origin.Status, Status: 403}),
		"404":            fault(origin.Fault{Kind: origin.Status, Status: 404}),
		"login page":     page,
		"redirect loop":  fault(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/one.xvm"}),
		"another length": fault(origin.Fault{Kind: origin.WrongTotal}),
	}, func(t *testing.T, begin outage) {
		w := bareWorld(t)
		w.publish("one", archive)
		w.mount("complete=off", "hard")
		f := w.open("one", "disk.img")
		w.wantAt(f, disk, 0)
		end := begin(w)
		read := make(chan error, 1)
		go func() { read <- compareAt(f, disk, 4<<20) }()
		select {
		case err := <-read:
			t.Fatalf("the read did not wait: %v", err)
		case <-time.After(3 * time.Second):
		}
		w.wantAt(f, disk, 4096)
		end()
		if err := testkit.Receive(t, "the read ends", time.Minute, read); err != nil {
			t.Errorf("the read that waited: %v", err)
		}
	})
}

// TestForgottenConnections: something on the way forgets the idle connections without a word.
// The next read must not wait for stall=, just when a guest resets its disk.
func TestForgottenConnections(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 27)
	w := relayedWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("complete=off", "hard", "stall=1h")
	f := w.open("one", "disk.img")
	w.wantAt(f, disk, 0)
	testkit.Eventually(t, "nothing is under way", time.Minute, func() bool { return w.file("one", "disk.img").InFlight == 0 })
	w.relay.freeze()()
	began, beganHere := w.now(), time.Now()
	w.wantAt(f, disk, 4<<20)
	t.Logf("the read took %s", time.Since(beganHere).Round(time.Millisecond))
	if took := w.now() - began; took > time.Minute {
		t.Errorf("the read took %s", took)
	}
}

// TestOutageSoft: a read fails with EIO in the time given, and works again
// when the network does.
func TestOutageSoft(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 21)
	archive := packListed(t, member{"disk.img", disk})
	together(t, outages(), func(t *testing.T, begin outage) {
		w := relayedWorld(t)
		w.publish("one", archive)
		w.mount("complete=off", "soft", "timeo=2s", "stall=1s")
		f := w.open("one", "disk.img")
		testkit.Eventually(t, "all is well", time.Minute, func() bool { return compareAt(f, disk, 0) == nil })
		end := begin(w)
		for i := range 2 {
			began, clock := time.Now(), w.now()
			err := compareAt(f, disk, int64(i+1)*(2<<20))
			took := time.Since(began)
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("a soft read: %v", err)
			}
			// How exactly it keeps to the time: TestSoftReadKeepsToTimeo.
			if took < time.Second || w.now()-clock > time.Minute {
				t.Errorf("a read with timeo=2s failed after %s", took)
			}
		}
		w.atOnce("one", "disk.img")
		w.wantAt(f, disk, 4096)
		end()
		testkit.Eventually(t, "a read after the outage", time.Minute, func() bool { return compareAt(f, disk, 2<<20) == nil })
		w.wantAt(f, disk, 2<<20)
	})
}

// TestOutageKill: who waits can be interrupted and killed.
func TestOutageKill(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 22)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("complete=off")
	hold(t, w.path("one", "disk.img"))
	w.origin.Inject(origin.Fault{Kind: origin.Hang})
	// A program that handles the signal itself, as dd does SIGINT, waits on: so
	// it is with local disks, and the kernel does not ask the filesystem.
	image := w.path("one", "disk.img")
	for _, c := range []struct {
		sig  syscall.Signal
		args []string
	}{
		{syscall.SIGINT, []string{"tail", "-c", "4096", image}},
		{syscall.SIGTERM, []string{"tail", "-c", "4096", image}},
		{syscall.SIGKILL, []string{"tail", "-c", "4096", image}},
		{syscall.SIGKILL, []string{"dd", "if=" + image, "of=/dev/null", "bs=4096", "count=1", "skip=1024", "iflag=direct"}},
		{syscall.SIGTERM, []string{"dd", "if=" + image, "of=/dev/null", "bs=4096", "count=1", "skip=1500", "iflag=direct"}},
	} {
		cmd := exec.Command(testkit.Need(t, c.args[0]), c.args[1:]...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			t.Fatalf("%s did not wait: %v", c.args, err)
		case <-time.After(400 * time.Millisecond):
		}
		_ = cmd.Process.Signal(c.sig)
		_ = testkit.Receive(t, fmt.Sprintf("%s ends by %v", c.args, c.sig), time.Minute, ended)
	}
}

// TestH14ExpiredURL: a redirect leads to a signed URL, which expires while the
// image is open; the place to ask for a new one is the URL of the feed.
func TestH14ExpiredURL(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 23)
	archive := packListed(t, member{"disk.img", disk})
	w := bareWorld(t)
	w.publish("one", archive)
	redirect := w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/signed-1"})
	w.origin.PutBytes("/signed-1", archive)
	w.mount("complete=off")
	f := w.open("one", "disk.img")
	w.wantAt(f, disk, 0)

	redirect()
	w.origin.Inject(origin.Fault{Path: "/signed-1", Kind: origin.Status, Status: 403})
	w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/signed-2"})
	w.origin.PutBytes("/signed-2", archive)
	w.origin.ResetStats()
	for off := int64(1 << 20); off < int64(len(disk)); off += 1 << 20 {
		w.wantAt(f, disk, off)
	}
	if n := w.origin.Stats("/signed-1").Requests; n > 2 {
		t.Errorf("the expired URL was asked %d times", n)
	}
	if g := w.release("one").Generation; g != 1 {
		t.Errorf("generation %d: the archive is the same", g)
	}
}

// TestOutageDNS: the name of the server stops to resolve, and resolves again.
func TestOutageDNS(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "unshare")
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a namespace with a hosts file of its own")
	}
	disk := noise(8<<20, 24)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	etc := t.TempDir()
	hosts, resolv := filepath.Join(etc, "hosts"), filepath.Join(etc, "resolv.conf")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(hosts, "127.0.0.1 vmcast.test\n")
	write(resolv, "nameserver 127.0.0.1\noptions attempts:1 timeout:1\n")
	feed := strings.Replace(w.feed, "127.0.0.1", "vmcast.test", 1)
	// The namespace begins with a copy of all mounts, which would keep those of
	// other tests alive.
	const alone = `awk '$3 == "fuse.vmcastfs" || $1 ~ "^/dev/loop" {print $2}' /proc/self/mounts | while read m; do umount -l "$m"; done; `
	script := fmt.Sprintf(alone+"mount --bind %s /etc/hosts && mount --bind %s /etc/resolv.conf && exec %s mount -f -o %s %s %s",
		hosts, resolv, binary, w.options("complete=off", "hard"), feed, w.dir)
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s", out.Bytes())
		}
	})
	w.dir = fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, w.dir)
	testkit.Eventually(t, "mounted", time.Minute, func() bool {
		_, err := os.Stat(w.path("one", "disk.img"))
		return err == nil
	})
	f := w.open("one", "disk.img")
	w.wantAt(f, disk, 0)
	// What is cut off would be asked for again at once, over a connection that
	// then needs no name.
	testkit.Eventually(t, "nothing is under way", time.Minute, func() bool { return w.file("one", "disk.img").InFlight == 0 })

	write(hosts, "127.0.0.1 localhost\n")
	w.origin.Down() // and its connections with it
	if err := w.origin.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second) // the resolver looks at its files every 5 s
	read := make(chan error, 1)
	go func() { read <- compareAt(f, disk, 4<<20) }()
	select {
	case err := <-read:
		t.Fatalf("the read did not wait: %v", err)
	case <-time.After(time.Second):
	}
	w.atOnce("one", "disk.img")
	testkit.Eventually(t, "the status tells of the origin", time.Minute, func() bool {
		st := w.status()
		return strings.Contains(fmt.Sprint(st.Origins), "vmcast.test") && anyFailing(st.Origins)
	})
	write(hosts, "127.0.0.1 vmcast.test\n")
	if err := testkit.Receive(t, "the name resolves again and the read ends", time.Minute, read); err != nil {
		t.Error(err)
	}
}
