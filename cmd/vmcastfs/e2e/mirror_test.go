package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/cmd/internal/rackcache"
)

// packedDisk is a package with a block list of an image that no compression makes smaller, signed
// with key if there is one.
func packedDisk(t *testing.T, key string) (pkg, disk []byte) {
	t.Helper()
	dir := t.TempDir()
	disk = noise(10<<20, 1)
	xml, image, out := filepath.Join(dir, "xvm.xml"), filepath.Join(dir, "root.img"), filepath.Join(dir, "p.xvm")
	if err := os.WriteFile(xml, []byte(`<xvm><name>m</name><disk file="root.img" target="vda"/></xvm>`), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(image, disk, 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"pack", "--compress", "none", "--block-size", "4K", "-o", out} // whose list is longer than the head
	if key != "" {
		args = append(args, "--sign", key)
	}
	if text, err := runBinary(t, append(args, xml, image)...); err != nil {
		t.Fatal(err, text)
	}
	pkg, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return pkg, disk
}

// rackWorld is a host that names packages on a server of their own, which has p.xvm.
func rackWorld(t *testing.T, pkg []byte) (w *world, packages *origin.Server) {
	t.Helper()
	w, packages = bareWorld(t), origin.New()
	packages.Put("/p.xvm", bytes.NewReader(pkg), int64(len(pkg)), time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
	if err := packages.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { packages.Close() })
	w.origin.PutBytes(appliance.FeedPath, rss(item{"r", packages.URL() + "/p.xvm"}))
	w.opts = []string{"complete=off", "sig=ignore"}
	return w, packages
}

// at is where a mirror has what is at a URL.
func at(url string) string { return "/" + strings.Replace(url, "://", "/", 1) }

// A rack whose origin is down boots what one host has booted before, through the configurations
// as they are printed, if a signature vouches for what the mirror says of the archive.
func TestH20RackWithoutOrigin(t *testing.T) {
	g := newGnuPG(t)
	g.key("pub", "ed25519", "never")
	key := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(key, g.run("", "--batch", "--armor", "--export-secret-keys", g.user("pub")), 0o600); err != nil {
		t.Fatal(err)
	}
	pkg, disk := packedDisk(t, key)
	ring := g.ring("pub")
	for kind, program := range rackcache.Programs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if _, err := rackcache.Find(kind); err != nil {
				testkit.Need(t, program)
			}
			first, packages := rackWorld(t, pkg)
			dir, err := os.MkdirTemp("/tmp", "vmcastfs-rack-") // where another user may look
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(dir)
			cache, err := rackcache.Start(t.Context(), binary, kind, dir, "127.0.0.1", nil, packages.URL())
			if err != nil {
				t.Fatal(err)
			}
			defer cache.Stop()
			first.opts = []string{"complete=off", "sig=require", "keyring=" + ring, "mirror=" + cache.URL}
			first.mount()
			first.wantFile(disk, "r", "root.img")
			if st := first.status(); len(st.Mirrors) != 1 || st.Mirrors[0].Bytes < int64(len(disk)) || st.Mirrors[0].Lies != 0 {
				t.Errorf("%+v", st.Mirrors)
			}
			if n := packages.Stats("").BytesSent; n > int64(len(pkg))*11/10+700_000 {
				t.Errorf("one host had the origin send %d bytes of %d", n, len(pkg))
			}
			testkit.Eventually(t, "the mirror has what other hosts ask for", time.Minute, func() bool {
				looked, tail := 0, 0
				for _, q := range packages.Log() {
					if q.Header.Get("Range") == "bytes=0-131071" {
						looked++
					}
					if q.Off+q.Len == int64(len(pkg)) && q.Header.Get("If-Range") != "" && q.Sent == q.Len {
						tail++
					}
				}
				return looked > 1 && tail > 0
			})
			packages.Close()
			hosts := 3
			if os.Getenv("VMCASTFS_TEST_LONG") != "" {
				hosts = 8
			}
			var all sync.WaitGroup
			for range hosts {
				w, other := rackWorld(t, nil)
				other.Close()
				w.origin, w.feed, w.opts = first.origin, first.feed, first.opts
				all.Go(func() {
					w.mount()
					w.wantFile(disk, "r", "root.img")
				})
			}
			all.Wait()
			// Where nobody has signed, nothing is believed.
			w, other := rackWorld(t, nil)
			other.Close()
			w.origin, w.feed, w.opts = first.origin, first.feed, []string{"sig=ignore", "soft", "timeo=2", "mirror=" + cache.URL}
			w.mount()
			if _, err := os.ReadFile(w.path("r", "root.img")); err == nil {
				t.Error("what a mirror alone says of an archive is believed")
			}
		})
	}
}

// sumsOver are the ways in which a host knows the sums of a disk's blocks. Each prepares one for the
// package at a URL.
var sumsOver = map[string]func(t *testing.T, w *world, url string, disk []byte){
	"list": func(*testing.T, *world, string, []byte) {},
	"sidecar": func(t *testing.T, w *world, url string, _ []byte) {
		dir := t.TempDir()
		if out, err := w.run("index", "-o", filepath.Join(dir, "p.xvm.sidecar"), "--options", "sig=ignore", url); err != nil {
			t.Fatal(err, out)
		}
		w.opts = append(w.opts, "sidecar="+dir)
	},
	"learned": func(t *testing.T, w *world, _ string, disk []byte) {
		w.mount()
		w.wantFile(disk, "r", "root.img")
		testkit.Eventually(t, "sums are kept", time.Minute, func() bool {
			kept, _ := filepath.Glob(filepath.Join(w.cache, "docs", "sums", "*"))
			return len(kept) > 0
		})
		w.umount()
		files, err := filepath.Glob(filepath.Join(w.cache, "files", "*"))
		if err != nil || len(files) == 0 {
			t.Fatal(err, "nothing was cached")
		}
		for _, file := range files { // evicted
			os.Remove(file)
		}
	},
}

// plainDisk is a package without a block list.
func plainDisk(t *testing.T) (pkg, disk []byte) {
	disk = noise(10<<20, 1)
	about, image := member{"xvm.xml", []byte("<xvm/>")}, member{"root.img", disk}
	return pack(t, about, member{"manifest.txt", sha1sums(about, image)}, image), disk
}

// A mirror that lies, in whatever way, is found out by the first blocks. Nothing wrong is read, the
// origin gives the rest, an event tells of it, and so does status.
func TestH19LyingMirror(t *testing.T) {
	t.Parallel()
	for kind, prepare := range sumsOver {
		pkg, disk := plainDisk(t)
		stride := 640 << 10 // one block in ten
		if kind == "list" {
			pkg, disk = packedDisk(t, "")
			stride = 40 << 10
		}
		t.Run(kind, func(t *testing.T) { lyingMirrors(t, pkg, disk, stride, prepare) })
	}
}

func lyingMirrors(t *testing.T, pkg, disk []byte, stride int, prepare func(t *testing.T, w *world, url string, disk []byte)) {
	replaced := noise(len(pkg), 2)
	for i := range replaced {
		replaced[i] ^= 0x55
	}
	flipped := bytes.Clone(pkg)
	for i := 300 << 10; i < len(flipped); i += stride {
		flipped[i] ^= 1
	}
	for name, x := range map[string]struct {
		content []byte
		fault   origin.Fault
		state   string
	}{
		"flips":      {flipped, origin.Fault{}, "banned"},
		"replaced":   {replaced, origin.Fault{}, "banned"},
		"mislabels":  {pkg, origin.Fault{Kind: origin.MislabelRange}, "banned"},
		"truncates":  {pkg, origin.Fault{Kind: origin.Truncate, After: 100_000}, "paused"},
		"other":      {pkg, origin.Fault{Kind: origin.WrongRange}, "paused"},
		"other etag": {pkg, origin.Fault{Kind: origin.ChangeETag, Value: `"two"`}, "works"},
		"stalls":     {pkg, origin.Fault{Kind: origin.Stall, After: 100_000}, "paused"},
		"is not":     {pkg, origin.Fault{Kind: origin.Drop}, "paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, packages := rackWorld(t, pkg)
			mirror := origin.New()
			mirror.Put(at(packages.URL())+"/p.xvm", bytes.NewReader(x.content), int64(len(x.content)), time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
			if err := mirror.Start(); err != nil {
				t.Fatal(err)
			}
			defer mirror.Close()
			if x.fault.Kind != "" {
				mirror.Inject(x.fault)
			}
			told, hook := filepath.Join(w.cache, "told"), filepath.Join(t.TempDir(), "hook")
			if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$1 $VMCASTFS_MIRROR\" >>"+told+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			prepare(t, w, packages.URL()+"/p.xvm", disk)
			w.mount("mirror="+mirror.URL(), "on_event="+hook)
			w.wantFile(disk, "r", "root.img")
			st := w.status()
			// A busy machine may not connect in the quarter of a second that a mirror has.
			for tries := 0; tries < 5 && len(st.Mirrors) == 1 && strings.Contains(st.Mirrors[0].LastError, "dial tcp") && x.state != "paused"; tries++ {
				w.umount()
				must(t, os.RemoveAll(w.cache))
				w.mount("mirror="+mirror.URL(), "on_event="+hook)
				w.wantFile(disk, "r", "root.img")
				st = w.status()
			}
			if len(st.Mirrors) != 1 || st.Mirrors[0].State != x.state {
				t.Errorf("%+v", st.Mirrors)
			}
			if x.state == "banned" {
				testkit.Eventually(t, "the event is told", time.Minute, func() bool {
					text, _ := os.ReadFile(told)
					return strings.Contains(string(text), "mirror-lied "+mirror.URL())
				})
				// Of each range under way, one block may be wrong before the first is found out. It
				// is one block, as a rule: the demanded piece comes alone. See the benchmark.
				if wrong := st.Reads.WrongBlocks; wrong > 8 {
					t.Errorf("%d wrong blocks before the ban", wrong)
				}
			}
			if n := len(mirror.Log()); n > 24 {
				t.Errorf("it was asked %d times", n)
			}
			out, err := w.run("status", w.dir)
			if err != nil || !strings.Contains(out, mirror.URL()) || !strings.Contains(out, x.state) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A bare image has no sums: it comes from the origin, and status says so, and what helps.
func TestMirrorWithoutSums(t *testing.T) {
	t.Parallel()
	w, packages := rackWorld(t, nil)
	disk := noise(3<<20, 3)
	packages.Put("/d.img", bytes.NewReader(disk), int64(len(disk)), time.Now().Add(-time.Hour), `"one"`, "application/octet-stream")
	w.origin.PutBytes(appliance.FeedPath, rss(item{"r", packages.URL() + "/d.img"}))
	mirror := origin.New()
	if err := mirror.Start(); err != nil {
		t.Fatal(err)
	}
	defer mirror.Close()
	w.mount("mirror=" + mirror.URL())
	w.wantFile(disk, "r", "d.img")
	if note := w.file("r", "d.img").MirrorNote; !strings.Contains(note, "vmcastfs index "+packages.URL()+"/d.img") || len(mirror.Log()) > 0 {
		t.Errorf("%q, and the mirror was asked for %v", note, mirror.Log())
	}
}
