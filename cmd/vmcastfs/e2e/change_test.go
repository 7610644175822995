package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// What a mount does when what it shows changes at the origin: who has an image
// open keeps its generation or gets EIO, who opens it anew gets the new one,
// and nobody ever gets bytes of both.

const changeSize = 6 << 20

// put serves an archive with given validators.
func (w *world) put(path string, archive []byte, modTime time.Time, etag string) {
	w.origin.Put(path, bytes.NewReader(archive), int64(len(archive)), modTime, etag, "application/x-xvm")
}

// generation tells whose bytes are at an offset: "old", "new", or "EIO".
func (w *world) generation(f *os.File, old, new []byte, off int64) string {
	w.t.Helper()
	switch {
	case errors.Is(compareAt(f, old, off), syscall.EIO):
		return "EIO"
	case compareAt(f, old, off) == nil:
		return "old"
	case compareAt(f, new, off) == nil:
		return "new"
	}
	w.t.Errorf("at %d are bytes of nothing that was ever published", off)
	return "?"
}

// wantGeneration reads all over a file and allows only what is listed.
func (w *world) wantGeneration(f *os.File, old, new []byte, allowed string) {
	w.t.Helper()
	for off := int64(0); off < int64(len(old)); off += 512 << 10 {
		if g := w.generation(f, old, new, off); !strings.Contains(allowed, g) {
			w.t.Errorf("at %d: %s, allowed is %s", off, g, allowed)
		}
	}
}

// newGeneration waits until opening the image anew gives the new content.
func (w *world) newGeneration(content []byte, name ...string) {
	w.t.Helper()
	testkit.Eventually(w.t, "an open gets the new generation", time.Minute, func() bool {
		f, err := os.OpenFile(w.path(name...), os.O_RDONLY|syscall.O_DIRECT, 0)
		if err != nil {
			return false
		}
		defer f.Close()
		return compareAt(f, content, 0) == nil && compareAt(f, content, int64(len(content))-4096) == nil
	})
	w.wantFile(content, name...)
}

// TestArchiveReplaced replaces an archive of which a guest has read a part.
func TestArchiveReplaced(t *testing.T) {
	t.Parallel()
	before, after := time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
	type version struct {
		at   time.Time
		etag string
	}
	old, new := noise(changeSize, 30), noise(changeSize, 31)
	shorter := new[:changeSize-4096]
	type change struct {
		old, new version
		content  []byte
		status   int // of the answer, if the new one is not simply served
	}
	together(t, map[string]change{
		"another strong ETag":                {version{before, `"1"`}, version{before, `"2"`}, new, 0},
		"no ETag and a newer date":           {version{before, ""}, version{after, ""}, new, 0},
		"no ETag and an older date":          {version{after, ""}, version{before, ""}, new, 0},
		"a weak ETag and a newer date":       {version{before, `W/"1"`}, version{after, `W/"2"`}, new, 0},
		"H12 the same date and another size": {version{before, ""}, version{before, ""}, shorter, 0},
		"no validators and another size":     {version{}, version{}, shorter, 0},
	}, func(t *testing.T, c change) {
		archive := packListed
		if c.old == (version{}) {
			archive = pack // what is summed would be fetched whole by the first read
		}
		w := bareWorld(t)
		w.publish("one", archive(t, member{"disk.img", old}))
		w.put("/one.xvm", w.app.Packages["/one.xvm"], c.old.at, c.old.etag)
		w.mount("complete=off")
		f := w.open("one", "disk.img")
		w.wantAt(f, old, 0)
		w.put("/one.xvm", archive(t, member{"disk.img", c.content}), c.new.at, c.new.etag)
		w.wantGeneration(f, old, c.content, "old EIO")
		w.newGeneration(c.content, "one", "disk.img")
		w.wantGeneration(f, old, c.content, "old EIO")
		w.wantAt(f, old, 0)
		if g := w.release("one").Generation; g != 2 {
			t.Errorf("generation %d", g)
		}
	})
}

// TestReplacedWithoutAnyValidator: nothing tells the versions apart but the
// sums of the whole, so nothing is served before they match; and when they do not
// it is taken for replaced.
func TestReplacedWithoutAnyValidator(t *testing.T) {
	t.Parallel()
	const size = 20 << 20 // more than is under way at once
	old, new := noise(size, 32), noise(size, 33)
	together(t, map[string]func(content []byte) []byte{
		"plain": func(content []byte) []byte { return packListed(t, member{"disk.img", content}) },
		"compressed": func(content []byte) []byte {
			return packListed(t, member{"disk.img.gz", filter(t, content, "gzip", "-1")})
		},
	}, func(t *testing.T, archive func([]byte) []byte) {
		before, after := archive(old), archive(new)
		if len(before) != len(after) {
			t.Fatalf("archives of %d and %d bytes", len(before), len(after))
		}
		w := bareWorld(t)
		w.publish("one", before)
		w.put("/one.xvm", before, time.Time{}, "")
		log := w.logged()
		w.origin.SetBandwidth(2 << 20)
		image := w.path("one", "disk.img")
		read := func(off int64) error { // opening waits as well, for the plain size
			f, err := os.OpenFile(image, os.O_RDONLY|syscall.O_DIRECT, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			return compareAt(f, old, off)
		}
		got := make(chan error, 1)
		go func() { got <- read(0) }()
		testkit.Eventually(t, "a part has been fetched", time.Minute, func() bool { return w.packageStats().BytesSent > 1<<20 })
		w.put("/one.xvm", after, time.Time{}, "")
		w.origin.SetBandwidth(0)
		if err := <-got; !errors.Is(err, syscall.EIO) {
			t.Errorf("the read that began before the archive was replaced: %v", err)
		}
		w.newGeneration(new, "one", "disk.img")
		if out, err := w.run("list", "-o", w.options(), w.feed); err != nil || !strings.Contains(out, "server gives no validator") {
			t.Errorf("list does not tell: %v\n%s", err, out)
		}
		for what, said := range map[string]string{"the log": log(), "the status": fmt.Sprint(w.release("one").Warnings)} {
			if !strings.Contains(said, "neither an ETag nor a date") || !strings.Contains(said, "checked whole before") {
				t.Errorf("%s does not tell:\n%s", what, said)
			}
		}
		if n := strings.Count(log(), "corrupt"); n == 0 {
			t.Errorf("the log does not tell of the mixture:\n%s", log())
		}
	})
	t.Run("verified before", func(t *testing.T) {
		w := bareWorld(t)
		w.publish("one", packListed(t, member{"disk.img", old}))
		w.put("/one.xvm", w.app.Packages["/one.xvm"], time.Time{}, "")
		w.mount()
		w.wantFile(old, "one", "disk.img")
		f := w.open("one", "disk.img")
		if v := attr(w.path("one", "disk.img"), "verify"); !strings.Contains("strict: server gives no validator kept", v) || v == "" {
			t.Errorf("user.vmcast.verify is %q", v)
		}
		w.put("/one.xvm", packListed(t, member{"disk.img", new}), time.Time{}, "")
		w.refresh()
		w.wantGeneration(f, old, new, "old")
		w.wantFile(old, "one", "disk.img")
	})
	t.Run("nothing sums it", func(t *testing.T) {
		w := bareWorld(t)
		w.publish("one", pack(t, member{"disk.img", old}))
		w.put("/one.xvm", w.app.Packages["/one.xvm"], time.Time{}, "")
		w.mount("complete=off")
		f := w.open("one", "disk.img")
		w.wantAt(f, old, 0)
		if said := fmt.Sprint(w.release("one").Warnings); !strings.Contains(said, `NOTHING DOES for ["disk.img"]`) {
			t.Errorf("the status does not warn: %s", said)
		}
		if v := attr(w.path("one", "disk.img"), "verify"); !strings.Contains(v, "may be of several") {
			t.Errorf("user.vmcast.verify is %q", v)
		}
	})
}

// TestReplacedWhenAllIsCached: nothing is fetched any more of an image that is
// complete; a look at the feed, or the first open of a process, notices all the same.
func TestReplacedWhenAllIsCached(t *testing.T) {
	t.Parallel()
	old, new := noise(changeSize, 34), noise(changeSize, 35)
	at := time.Now().Add(-24 * time.Hour)
	together(t, map[string]struct {
		etag    string
		remount bool
	}{
		"by a look at the feed":              {`"1"`, false},
		"by a look at the feed without ETag": {"", false},
		"by an open after a remount":         {`"1"`, true},
	}, func(t *testing.T, c struct {
		etag    string
		remount bool
	}) {
		w := bareWorld(t)
		w.publish("one", packListed(t, member{"disk.img", old}))
		w.put("/one.xvm", w.app.Packages["/one.xvm"], at, c.etag)
		w.mount()
		image := w.path("one", "disk.img")
		f := w.open("one", "disk.img")
		testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(image, "state") == "verified" })
		etag := ""
		if c.etag != "" {
			etag = `"2"`
		}
		if c.remount {
			f.Close()
			w.umount()
		}
		w.put("/one.xvm", packListed(t, member{"disk.img", new}), at.Add(time.Hour), etag)
		if c.remount {
			w.mount()
			f = w.open("one", "disk.img")
		} else {
			w.refresh()
		}
		w.newGeneration(new, "one", "disk.img")
		if c.remount {
			w.wantGeneration(f, old, new, "new") // the first open asks
		} else {
			w.wantGeneration(f, old, new, "old") // all of it was cached
		}
	})
}

// TestReleaseWithdrawn takes a release out of the feed, and its archive from
// the server, while a guest uses it.
func TestReleaseWithdrawn(t *testing.T) {
	t.Parallel()
	disk := noise(changeSize, 36)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.publish("two", packListed(t, member{"disk.img", disk[1:]}))
	w.mount("complete=off", "refresh=1s", "keep=feed")
	f := w.open("two", "disk.img")
	w.wantAt(f, disk[1:], 0)
	w.origin.PutBytes(appliance.FeedPath, rss(w.items[0]))
	testkit.Eventually(t, "the feed is the new one", time.Minute, func() bool { return w.latest() == "one" })

	w.wantAt(f, disk[1:], 2<<20) // the archive is still there
	if _, err := os.Stat(w.path("two", "disk.img")); err != nil {
		t.Errorf("a release in use is gone: %v", err)
	}
	back := w.origin.Inject(origin.Fault{Path: "/two.xvm", Kind: origin.Status, Status: http.StatusGone})
	for off := int64(0); off < changeSize-4096; off += 512 << 10 {
		if err := compareAt(f, disk[1:], off); err != nil && !errors.Is(err, syscall.EIO) {
			t.Errorf("at %d: %v", off, err)
		}
	}
	w.wantAt(f, disk[1:], 0)
	w.wantAt(f, disk[1:], 2<<20)
	f.Close()
	testkit.Eventually(t, "the release disappears with its last user", time.Minute, func() bool {
		_, err := os.Stat(w.path("two"))
		return errors.Is(err, os.ErrNotExist)
	})

	// Coming back it is the one it was.
	back()
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
	testkit.Eventually(t, "the release is back", time.Minute, func() bool { return w.latest() == "two" })
	w.wantFile(disk[1:], "two", "disk.img")
}

// TestF14FeedRolledBack: the feed shows an older state. Who runs the newer
// release keeps it; and when the feed recovers everything is as before.
func TestF14FeedRolledBack(t *testing.T) {
	t.Parallel()
	disk := noise(changeSize, 37)
	w := bareWorld(t)
	for i, name := range []string{"one", "two", "three"} {
		w.publish(name, packListed(t, member{"disk.img", disk[i:]}))
	}
	w.mount("complete=off", "refresh=1s")
	f := w.open("three", "disk.img")
	w.wantAt(f, disk[2:], 0)
	w.origin.PutBytes(appliance.FeedPath, rss(w.items[:1]...))
	testkit.Eventually(t, "the feed is looked at", 60*time.Second, func() bool {
		return w.latest() == "one" || w.status().Feed.Stale
	})
	for off := int64(0); off < changeSize-4096; off += 512 << 10 {
		w.wantAt(f, disk[2:], off)
	}
	w.wantFile(disk, "one", "disk.img")
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
	testkit.Eventually(t, "the feed has recovered", time.Minute, func() bool { return w.latest() == "three" })
	w.wantFile(disk[1:], "two", "disk.img")
	w.wantFile(disk[2:], "three", "disk.img")
}

// TestReplacedCompressed replaces an archive whose image is read inflated.
func TestReplacedCompressed(t *testing.T) {
	t.Parallel()
	old, new := lines(changeSize, 1), lines(changeSize, 2)
	make := func(content []byte) []byte {
		return packListed(t, member{"disk.img.gz", filter(t, content, "gzip", "-1")}, member{"filler", noise(4<<20, 42)})
	}
	w := bareWorld(t)
	w.publish("one", make(old))
	w.origin.SetBandwidth(1 << 20) // so that it is not all here when it is replaced
	w.mount("complete=off")
	f := w.open("one", "disk.img")
	w.wantAt(f, old, 0)
	w.publish2("one", make(new))
	w.origin.SetBandwidth(0)
	w.wantGeneration(f, old, new, "old EIO")
	w.refresh()
	w.newGeneration(new, "one", "disk.img")
	w.wantGeneration(f, old, new, "old EIO")
}

// publish2 replaces the archive of a release.
func (w *world) publish2(title string, archive []byte) {
	w.app.Packages["/"+title+".xvm"] = archive
	w.origin.PutBytes("/"+title+".xvm", archive)
}

// TestH11ETagsFlap: behind one URL are servers that do not agree about the
// ETag. Reads may fail, and never lie or hang.
func TestH11ETagsFlap(t *testing.T) {
	t.Parallel()
	disk := noise(changeSize, 43)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("complete=off")
	w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.ChangeETag, Rate: 0.3})
	end := time.Now().Add(3 * time.Second)
	outcomes := map[string]int{}
	for i := 0; time.Now().Before(end); i++ {
		func() {
			f, err := os.OpenFile(w.path("one", "disk.img"), os.O_RDONLY|syscall.O_DIRECT, 0)
			if err != nil {
				outcomes["not opened"]++
				time.Sleep(20 * time.Millisecond)
				return
			}
			defer f.Close()
			switch err := compareAt(f, disk, int64(i*7%48)<<17); {
			case err == nil:
				outcomes["right"]++
			case errors.Is(err, syscall.EIO):
				outcomes["EIO"]++
			default:
				t.Error(err)
			}
		}()
	}
	t.Log(fmt.Sprint(outcomes))
}

// TestReplacedWhileOff replaces an archive while nothing is mounted. What the disk
// knows of it is of the old one, all of it: the first open gets the new one, and list
// says what is there now.
func TestReplacedWhileOff(t *testing.T) {
	t.Parallel()
	old, new := noise(20<<16, 7), noise(21<<16, 8)
	w := bareWorld(t)
	w.opts = append(w.opts, "complete=off")
	w.publish("one", packListed(t, member{"root.img", old}))
	w.mount()
	w.wantFile(old, "one", "root.img")
	w.umount()
	w.origin.PutBytes("/one.xvm", packListed(t, member{"root.img", new}))
	w.mount()
	f, err := os.Open(w.path("one", "root.img"))
	if err != nil {
		t.Fatal(err)
	}
	if err := compareAt(f, new, 0); err != nil {
		t.Errorf("the first open: %v", err)
	}
	w.wantFile(new, "one", "root.img")
	f.Close()
	w.umount()

	// An archive of the same size at a server that tells no versions apart any more.
	again := noise(21<<16, 9)
	w.put("/one.xvm", packListed(t, member{"root.img", again}), time.Time{}, "")
	w.mount()
	testkit.Eventually(t, "the other archive is shown", time.Minute, func() bool {
		got, err := os.ReadFile(w.path("one", "root.img"))
		return err == nil && bytes.Equal(got, again)
	})
	w.umount()

	w.origin.PutBytes("/one.xvm", packListed(t, member{"other.img", old}))
	if out, err := w.run("list", "-o", w.options(), w.feed); err != nil || !strings.Contains(out, "other.img") || strings.Contains(out, "root.img") {
		t.Errorf("list of a replaced archive: %v\n%s", err, out)
	}
	for status, want := range map[int]string{401: "refuses to give the archive", 403: "refuses to give the archive", 404: "not on its server any more", 410: "not on its server any more"} {
		well := w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Status, Status: status})
		if out, err := w.run("list", "-o", w.options(), w.feed); err == nil || !strings.Contains(out, want) {
			t.Errorf("list of an archive with status %d: %v\n%s", status, err, out)
		}
		well()
	}
	w.origin.Remove("/one.xvm")
	if out, err := w.run("list", "-o", w.options(), w.feed); err == nil || !strings.Contains(out, "not on its server any more") {
		t.Errorf("list of an archive that is gone: %v\n%s", err, out)
	}
}
