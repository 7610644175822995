package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// What is left when the daemon dies, or finds that it served what it should
// not have.

// kill ends the daemon as the OOM killer would, and waits until its mount is
// dead: "transport endpoint is not connected".
func (w *world) kill() {
	w.t.Helper()
	pids := w.daemons()
	if len(pids) != 1 {
		w.t.Fatalf("%d daemons", len(pids))
	}
	must(w.t, syscall.Kill(pids[0], syscall.SIGKILL))
	w.waitGone(pids[0])
	testkit.Eventually(w.t, "the mount is dead", time.Minute, func() bool { return fs.IsStale(w.dir) })
}

// cached is what the cache directory holds, by its own account; damaged blocks
// are an error.
func cached(t *testing.T, dir string) (blocks int64) {
	t.Helper()
	s, err := store.Open(store.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	progress, err := s.Verify(t.Context(), nil)
	if err != nil || progress.Damaged != 0 || progress.Failed != 0 {
		t.Errorf("the cache after a kill: %+v, %v", progress, err)
	}
	return progress.Blocks
}

// TestL4Killed kills the daemon again and again while guests read: nothing that
// was journaled is lost, no byte is wrong, and the next mount, over the dead
// one, is there at once.
func TestL4Killed(t *testing.T) {
	t.Parallel()
	disk := noise(32<<20, 60)
	packed := lines(8<<20, 5)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}, member{"plain.img.gz", filter(t, packed, "gzip", "-1")}))
	w.origin.SetBandwidth(8 << 20)
	rng := rand.New(rand.NewPCG(6, 6))
	var before int64
	var mounts []time.Duration
	for round := range 8 {
		began := w.now()
		w.mount()
		mounts = append(mounts, w.now()-began)
		var readers sync.WaitGroup
		killed := make(chan struct{})
		for i := range 4 {
			name, published := "disk.img", disk
			if i == 3 {
				name, published = "plain.img", packed
			}
			readers.Go(func() {
				f, err := os.Open(w.path("one", name))
				if err != nil {
					return // killed meanwhile
				}
				defer f.Close()
				rng := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				p := make([]byte, 32<<10)
				for {
					select {
					case <-killed:
						return // what the kernel has it goes on to serve
					default:
					}
					off := rng.Int64N(int64(len(published)) - int64(len(p)))
					n, err := f.ReadAt(p, off)
					if !bytes.Equal(p[:n], published[off:off+int64(n)]) {
						t.Errorf("round %d: wrong bytes of %s at %d", round, name, off)
					}
					if err != nil && err != io.EOF {
						return
					}
				}
			})
		}
		time.Sleep(time.Duration(50+rng.IntN(600)) * time.Millisecond)
		w.kill()
		close(killed)
		readers.Wait()
		after := cached(t, w.cache)
		if after < before {
			t.Errorf("round %d: %d blocks are left of %d", round, after, before)
		}
		before = after
	}
	t.Logf("mounting took %v, %d blocks are kept", mounts, before)
	if slices.Min(mounts[1:]) > 10*mounts[0] {
		t.Errorf("mounting over a dead mount took %v, over none %s", mounts[1:], mounts[0])
	}
	if before < 32 {
		t.Errorf("only %d blocks were kept", before)
	}
	w.origin.SetBandwidth(0)
	w.mount()
	w.wantFile(disk, "one", "disk.img")
	w.wantFile(packed, "one", "plain.img")
}

// TestStaleMountReplaced: the mount of a dead daemon is recognised and replaced, or
// unmounted, also while somebody still has a file of it open.
func TestStaleMountReplaced(t *testing.T) {
	t.Parallel()
	disk := noise(1<<20, 61)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	for _, form := range []string{"mount", "mount(8) helper", "umount"} {
		w.mount()
		f, err := os.Open(w.path("one", "disk.img"))
		if err != nil {
			t.Fatal(err)
		}
		w.wantFile(disk, "one", "disk.img")
		w.kill()
		switch form {
		case "mount":
			w.mount()
		case "mount(8) helper":
			helper := filepath.Join(filepath.Dir(binary), "mount.vmcastfs")
			if out, err := exec.Command(helper, w.feed, w.dir, "-o", w.options()).CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
		case "umount":
			if out, err := w.run("umount", w.dir); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
				t.Errorf("still mounted: %v, %v", entries, err)
			}
			f.Close()
			continue
		}
		w.wantFile(disk, "one", "disk.img")
		f.Close()
		w.umount()
	}
}

// TestUpgrade replaces the daemon under a guest: the old mount is detached and
// goes on to serve who has files open, the new one serves who comes. What the
// one has cached the other need not fetch. Metrics and hooks are the new one's.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	disk := noise(8<<20, 62)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	at := t.TempDir()
	hook, events, socket := filepath.Join(at, "hook"), filepath.Join(at, "events"), filepath.Join(at, "metrics")
	program(t, hook, "#!/bin/sh\necho \"$1 $VMCASTFS_RELEASE\" >>"+events+"\n")
	w.opts = append(w.opts, "metrics=unix:"+socket, "on_event="+hook)
	w.mount("complete=off")
	old := w.daemons()
	guest := w.open("one", "disk.img")
	for off := int64(0); off < 4<<20; off += 512 << 10 {
		w.wantAt(guest, disk, off)
	}
	if out, err := w.run("umount", "-l", w.dir); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.mount("complete=off")
	if pids := w.daemons(); len(pids) != 2 {
		t.Errorf("the daemons are %v, before %v", pids, old)
	}
	if n := scrape(t, "unix", socket)["vmcastfs_open_files"]; n != "0" {
		t.Errorf("the metrics tell of %s open files, as the old daemon has", n)
	}
	w.publish("two", pack(t, member{"none", nil}))
	w.refresh() // both
	testkit.Eventually(t, "the hook is run", time.Minute, func() bool { return told(events) != "" })
	w.wantFile(disk, "one", "disk.img") // through the new one
	for off := int64(0); off < 8<<20; off += 512 << 10 {
		w.wantAt(guest, disk, off) // through the old one
	}
	if st := w.packageStats(); st.BytesSent > int64(len(disk))*11/10 {
		t.Errorf("%d bytes were fetched of an image of %d", st.BytesSent, len(disk))
	}
	guest.Close()
	for _, pid := range old {
		w.waitGone(pid) // it ends with its last user
	}
	w.wantFile(disk, "one", "disk.img")
	if got := told(events); got != "new two\n" {
		t.Errorf("the hook was told\n%s", got)
	}
	scrape(t, "unix", socket)
}

// TestPagesOfACorruptImage: the kernel has pages of an image that a guest has
// open when the check in the background finds the image corrupt.
func TestPagesOfACorruptImage(t *testing.T) {
	t.Parallel()
	disk := noise(6<<20, 63)
	packed := lines(6<<20, 6)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.publish("two", pack(t, // its manifest speaks of the plain content
		member{"description.xml", []byte("<domain><name>vm</name></domain>")},
		member{"manifest.txt", fmt.Appendf(nil, "plain.img %d %s\n", len(packed), hexMD5(disk))},
		member{"plain.img.gz", filter(t, packed, "gzip", "-1")}))
	w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: 5 << 20})
	w.origin.SetBandwidth(2 << 20)
	w.mount()
	for release, name := range map[string]string{"one": "disk.img", "two": "plain.img"} {
		path := w.path(release, name)
		want := disk
		if release == "two" {
			want = packed
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		p := make([]byte, 4096)
		if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, want[:4096]) {
			t.Fatalf("%s: first read: %v", path, err)
		}
		testkit.Eventually(t, name+" is corrupt", time.Minute, func() bool { return attr(path, "state") == "corrupt" })
		began := time.Now()
		testkit.Eventually(t, "the page is gone: "+name, time.Minute, func() bool {
			_, err := f.ReadAt(p, 0)
			return errors.Is(err, syscall.EIO)
		})
		t.Logf("%s: the page was gone %s after the state was seen", name, time.Since(began).Round(time.Millisecond))
	}
}

// TestHungMount stops the daemon: what looks at the mount says that it hangs, and
// does not hang with it.
func TestHungMount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	w.wantDisk()
	pids := w.daemons()
	if len(pids) != 1 {
		t.Fatalf("%d daemons", len(pids))
	}
	must(t, syscall.Kill(pids[0], syscall.SIGSTOP))
	defer func() { _ = syscall.Kill(pids[0], syscall.SIGCONT) }()
	// A thread that is still awake could take a request with it, and who waits
	// for one that is taken cannot even be killed.
	testkit.Eventually(t, "all threads are stopped", time.Minute, func() bool { return stopped(t, pids[0]) })
	var work sync.WaitGroup
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"status", w.dir}, "hung: no answer within"},
		{[]string{"status", "--json", w.path("latest")}, `"state": "hung"`},
		{[]string{"prefetch", w.path("latest")}, "is hung: no answer within"},
		{[]string{"cache", "pin", w.path("latest")}, "is hung: no answer within"},
	} {
		work.Go(func() {
			cmd := exec.Command(binary, c.args...)
			late := time.AfterFunc(5*time.Minute, func() {
				t.Errorf("%q hangs", c.args)
				_ = syscall.Kill(pids[0], syscall.SIGCONT)
			})
			defer late.Stop()
			out, err := cmd.CombinedOutput()
			if exitCode(err) != 1 || !strings.Contains(string(out), c.want) {
				t.Errorf("%q: %v\n%s", c.args, err, out)
			}
		})
	}
	work.Wait()
	if out, err := w.run("umount", "-l", w.dir); err != nil {
		t.Errorf("umount -l: %v, %s", err, out)
	}
}

// stopped tells whether every thread of a process has been stopped by a signal.
func stopped(t *testing.T, pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil || len(threads) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	for _, thread := range threads {
		stat, err := os.ReadFile(thread)
		if _, state, ok := strings.Cut(string(stat), ") "); err == nil && (!ok || state[0] != 'T') {
			return false
		}
	}
	return true
}
