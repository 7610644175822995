package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

// cable is a link between two networks of their own, near and far: what is sent
// through it can really be lost.
type cable struct {
	t         *testing.T
	near, far string // network namespaces
}

const farAddress = "10.213.0.1"

func newCable(t *testing.T) *cable {
	t.Helper()
	testkit.Need(t, "ip")
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root")
	}
	namespace := func() string {
		cmd := exec.Command(testkit.Need(t, "unshare"), "--net", "sh", "-c", "echo ready; exec cat")
		in, err := cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
		if ready, err := bytesLine(out); ready != "ready" {
			t.Fatalf("no network namespace: %q, %v", ready, err)
		}
		return fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid)
	}
	c := &cable{t, namespace(), namespace()}
	c.ip(c.near, "link", "set", "lo", "up")
	c.ip(c.near, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", c.far)
	c.ip(c.near, "addr", "add", "10.213.0.2/24", "dev", "near")
	c.ip(c.near, "link", "set", "near", "up")
	c.ip(c.far, "addr", "add", farAddress+"/24", "dev", "far")
	c.ip(c.far, "link", "set", "far", "up")
	return c
}

// ip configures one of the two networks.
func (c *cable) ip(netns string, args ...string) {
	c.t.Helper()
	if out, err := runProgram(c.t, "nsenter", append([]string{"--net=" + netns, "--", "ip"}, args...)...); err != nil {
		c.t.Fatalf("ip %q: %v\n%s", args, err, out)
	}
}

// listen is net.Listen in the far network.
func (c *cable) listen() (l net.Listener) {
	c.t.Helper()
	err := errors.New("not done")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good, unless it comes back from the far network
		var here, there *os.File
		if here, err = os.Open("/proc/thread-self/ns/net"); err != nil {
			return
		}
		defer here.Close()
		if there, err = os.Open(c.far); err != nil {
			return
		}
		defer there.Close()
		if err = unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		l, err = net.Listen("tcp", farAddress+":0")
		if unix.Setns(int(here.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
	}()
	<-done
	must(c.t, err)
	return l
}

// TestPacketsAreLost: connections become half open in the midst of an answer, since
// from one packet to the next nothing comes through any more, in either direction and
// without a word from anybody.
func TestPacketsAreLost(t *testing.T) {
	t.Parallel()
	disk := noise(12<<20, 27)
	archive := packListed(t, member{"disk.img", disk})
	together(t, map[string][2][]string{ // how the far end goes and comes back
		"the link is down": {{"link", "set", "far", "down"}, {"link", "set", "far", "up"}},
		"the host is gone": {{"addr", "del", farAddress + "/24", "dev", "far"}, {"addr", "add", farAddress + "/24", "dev", "far"}},
	}, func(t *testing.T, how [2][]string) {
		c := newCable(t)
		w := bareWorld(t)
		w.netns = c.near
		w.through(c.listen())
		w.publish("one", archive)
		w.publish("two", archive)
		w.mount("complete=off", "stall=1s")
		soft := *w
		soft.dir, soft.cache = t.TempDir(), t.TempDir()
		soft.mount("complete=off", "stall=1s", "soft", "timeo=3s")
		f, g := w.open("one", "disk.img"), soft.open("one", "disk.img")
		w.wantAt(f, disk, 0)
		testkit.Eventually(t, "the soft mount reads", time.Minute, func() bool { return compareAt(g, disk, 0) == nil })

		// Both are in the midst of an answer that would take seconds.
		w.origin.SetBandwidth(512 << 10)
		before := w.origin.Stats("/one.xvm").BytesSent
		read := func(f *os.File) chan error {
			end := make(chan error, 1)
			go func() {
				p := aligned(4 << 20)
				_, err := f.ReadAt(p, 4<<20)
				if err == nil && !bytes.Equal(p, disk[4<<20:8<<20]) {
					err = errors.New("wrong bytes")
				}
				end <- err
			}()
			return end
		}
		hardRead, softRead := read(f), read(g)
		testkit.Eventually(t, "bytes are under way", time.Minute, func() bool {
			return w.file("one", "disk.img").InFlight > 0 && soft.file("one", "disk.img").InFlight > 0 &&
				w.origin.Stats("/one.xvm").BytesSent > before+64<<10
		})
		c.ip(c.far, how[0]...)
		lost, lostHere := w.now(), time.Now()
		w.origin.SetBandwidth(0)

		failed := false
		for time.Since(lostHere) < 3*time.Second || !failed {
			w.atOnce("one", "disk.img")
			soft.atOnce("one", "disk.img")
			w.wantAt(f, disk, 4096)
			soft.wantAt(g, disk, 4096)
			select {
			case err := <-hardRead:
				t.Fatalf("the read of the hard mount did not wait: %v", err)
			case err := <-softRead:
				failed = true
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("the read of the soft mount: %v", err)
				}
			case <-time.After(50 * time.Millisecond):
			}
			if d := w.now() - lost; d > time.Minute {
				t.Fatalf("with timeo=3s a read still waits after %s", d)
			}
		}
		testkit.Eventually(t, "the status tells of it", time.Minute, func() bool { return anyFailing(w.status().Origins) })

		c.ip(c.far, how[1]...)
		if err := testkit.Receive(t, "the network is back and the read ends", time.Minute, hardRead); err != nil {
			t.Errorf("the read that waited: %v", err)
		}
		testkit.Eventually(t, "the soft mount reads again", time.Minute, func() bool { return compareAt(g, disk, 10<<20) == nil })
	})
}
