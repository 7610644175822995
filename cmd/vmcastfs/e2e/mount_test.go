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
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

func TestMountForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	helper := filepath.Join(filepath.Dir(binary), "mount.vmcastfs")
	forms := map[string][]string{
		"mount":           {binary, "mount", "-o", w.options(), w.feed, w.dir},
		"mount(8) helper": {helper, w.feed, w.dir, "-s", "-v", "-n", "-o", "rw,_netdev,nofail,noatime,x-systemd.automount," + w.options()},
		"fuse type":       {binary, w.feed, w.dir, "-o", "rw,dev,suid," + w.options()},
	}
	ends := map[string]func(pid int) error{
		"vmcastfs umount": func(int) error { return exec.Command(binary, "umount", w.dir).Run() },
		"umount":          func(int) error { return exec.Command("umount", w.dir).Run() },
		"fusermount3":     func(int) error { return exec.Command("fusermount3", "-u", w.dir).Run() },
		"SIGTERM":         func(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) },
		"SIGINT":          func(pid int) error { return syscall.Kill(pid, syscall.SIGINT) },
	}
	form := []string{"mount", "mount(8) helper", "fuse type"}
	i := 0
	for end, stop := range ends {
		name := form[i%len(form)]
		i++
		t.Run(name+", "+end, func(t *testing.T) {
			out, err := exec.Command(forms[name][0], forms[name][1:]...).CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			defer func() { _ = fs.UnmountDir(w.dir, true) }()
			if got, err := os.Readlink(w.path("latest")); err != nil || got != "demo-1.1" {
				t.Errorf("latest is %q, %v", got, err)
			}
			pids := w.daemons()
			if len(pids) != 1 {
				t.Fatalf("%d daemons", len(pids))
			}
			if err := stop(pids[0]); err != nil {
				t.Fatal(err)
			}
			w.waitGone(pids[0])
			if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
				t.Errorf("still mounted: %v, %v", entries, err)
			}
		})
	}
}

func TestTree(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	if got := readAll(t, w.path("feed.xml")); !bytes.Equal(got, w.app.Feed) {
		t.Error("feed.xml is not the feed verbatim")
	}
	list := func() string {
		entries, err := os.ReadDir(w.path("latest"))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return strings.Join(names, " ")
	}
	// A listing inflates nothing of this size: the plain name is listed once somebody has asked for it.
	const rest = "data.img.gz disk.img manifest.txt mf-signature.asc notes.html signature.asc xvm.xml"
	if got := list(); got != rest {
		t.Errorf("files are %s, want %s", got, rest)
	}
	if !bytes.Equal(readAll(t, w.path("latest", "disk.img")), w.app.Disk) {
		t.Error("disk.img differs")
	}
	if !bytes.Equal(readAll(t, w.path("latest", "data.img")), w.app.Data) {
		t.Error("data.img differs")
	}
	testkit.Eventually(t, "the plain name is listed", time.Minute, func() bool { return list() == "data.img "+rest })
	for _, sum := range []string{"sha1sum", "sha256sum"} {
		cmd := exec.Command(sum, "-c", "--ignore-missing", "manifest.txt")
		cmd.Dir = w.path("latest")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", sum, err, out)
		}
	}
}

func TestRemountAsksForNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("complete=off")
	readAll(t, w.path("latest", "disk.img"))
	w.allListed()
	w.umount()
	w.origin.ResetStats()
	w.mount("complete=off")
	if !bytes.Equal(readAll(t, w.path("latest", "disk.img")), w.app.Disk) {
		t.Error("disk.img differs")
	}
	if st := w.packageStats(); st.BytesSent > 1 || st.Requests > 1 { // the first byte tells whether the archive is the same
		t.Errorf("%d requests, %d bytes for what was in the cache", st.Requests, st.BytesSent)
	}
}

func TestMountWithTheServerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	readAll(t, w.path("latest", "disk.img"))
	w.umount()
	w.origin.Down()
	began := w.now()
	w.mount()
	if d := w.now() - began; d > time.Minute {
		t.Errorf("mounting took %s", d)
	}
	if !bytes.Equal(readAll(t, w.path("latest", "disk.img")), w.app.Disk) {
		t.Error("disk.img differs")
	}
	if st := w.status(); !st.Feed.Stale || st.Feed.LastError == "" {
		t.Errorf("status does not say that the feed is stale: %+v", st.Feed)
	}
}

func TestCorruptImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.origin.Inject(origin.Fault{Path: "/demo-1.1.xvm", Kind: origin.Flip, At: 5 << 20})
	w.mount()
	disk := w.path("latest", "disk.img")
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "disk.img corrupt", time.Minute, func() bool { return attr(disk, "state") == "corrupt" })
	if _, err := f.ReadAt(make([]byte, 4096), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading on in a corrupt image gives %v", err)
	}
	f.Close()
	if _, err := os.ReadFile(disk); !errors.Is(err, syscall.EIO) {
		t.Errorf("opening a corrupt image gives %v", err)
	}
	// Its neighbours do not suffer.
	if !bytes.Equal(readAll(t, w.path("latest", "data.img")), w.app.Data) {
		t.Error("data.img differs")
	}
	readAll(t, w.path("demo-1.0", "disk.img"))
	w.umount()
	w.mount()
	if _, err := os.ReadFile(w.path("latest", "disk.img")); err == nil {
		t.Error("after a remount the corrupt image can be read")
	}
}

func TestVerifyStrict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount("verify=strict")
	f, err := os.Open(w.path("latest", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 512)
	if _, err := f.Read(p); err != nil || !bytes.Equal(p, w.app.Disk[:512]) {
		t.Fatalf("first read: %v", err)
	}
	if got := attr(f.Name(), "state"); got != "verified" {
		t.Errorf("after the first read the state is %q", got)
	}
}

// A mount in use is not unmounted, and what uses it is named.
func TestUmountNamesHolders(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	hold(t, w.path("latest/disk.img"))
	out, err := w.run("umount", w.dir)
	if want := fmt.Sprintf("(pid %d) demo-1.1/disk.img", os.Getpid()); exitCode(err) != exitMount || !strings.Contains(out, want) {
		t.Errorf("%v: no %q in %s", err, want, out)
	}
}
