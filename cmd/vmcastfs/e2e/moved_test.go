package e2e

import (
	"bytes"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cmd/internal/appliance"
)

// TestURLMoves: the URL of the feed redirects, and the redirect changes.
func TestURLMoves(t *testing.T) {
	t.Parallel()
	old, new := noise(changeSize, 38), noise(changeSize, 39)
	t.Run("to the same archive", func(t *testing.T) {
		w := bareWorld(t)
		other := bareWorld(t).origin // another host
		archive := packListed(t, member{"disk.img", old})
		w.publish("one", archive)
		back := w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Status: 301, Value: "/there/one.xvm"})
		w.origin.PutBytes("/there/one.xvm", archive)
		at := time.Now().Add(-time.Hour)
		w.put("/there/one.xvm", archive, at, `"1"`)
		w.mount("complete=off")
		f := w.open("one", "disk.img")
		w.wantAt(f, old, 0)
		back()
		w.origin.Remove("/there/one.xvm")
		w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Status: 307, Value: other.URL() + "/mirror"})
		other.Put("/mirror", bytes.NewReader(archive), int64(len(archive)), at, `"1"`, "")
		w.wantGeneration(f, old, old, "old")
		if g := w.release("one").Generation; g != 1 {
			t.Errorf("generation %d", g)
		}
	})
	t.Run("to a newer archive", func(t *testing.T) {
		w := bareWorld(t)
		w.publish("one", nil)
		back := w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/v1"})
		w.origin.PutBytes("/v1", packListed(t, member{"disk.img", old}))
		w.origin.PutBytes("/v2", packListed(t, member{"disk.img", new}))
		w.mount("complete=off")
		f := w.open("one", "disk.img")
		w.wantAt(f, old, 0)
		back()
		w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Redirect, Value: "/v2"})
		w.refresh()
		w.newGeneration(new, "one", "disk.img")
		w.wantGeneration(f, old, new, "old") // the old place is still there
		w.origin.Remove("/v1")
		w.wantGeneration(f, old, new, "old EIO")
	})
}

// TestF12FeedNamesAnotherPackage: the item stays, its enclosure is another.
func TestF12FeedNamesAnotherPackage(t *testing.T) {
	t.Parallel()
	old, new := noise(changeSize, 40), noise(changeSize, 41)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", old}))
	w.mount("complete=off")
	f := w.open("one", "disk.img")
	w.wantAt(f, old, 0)
	w.origin.PutBytes("/other.xvm", packListed(t, member{"disk.img", new}))
	w.origin.PutBytes(appliance.FeedPath, rss(item{"one", "other.xvm"}))
	w.refresh()
	w.newGeneration(new, "one", "disk.img")
	w.wantGeneration(f, old, new, "old")
}

// TestComesBackAsAnother: a release leaves the feed while a guest uses it, and
// comes back with another package.
func TestComesBackAsAnother(t *testing.T) {
	t.Parallel()
	old, new := noise(changeSize, 44), noise(changeSize, 45)
	together(t, map[string]string{"at its place": "two.xvm", "at another": "other.xvm"}, func(t *testing.T, path string) {
		w := bareWorld(t)
		w.publish("one", packListed(t, member{"disk.img", old[1:]}))
		w.publish("two", packListed(t, member{"disk.img", old}))
		w.mount("complete=off")
		f := w.open("two", "disk.img")
		w.wantAt(f, old, 0)
		w.origin.PutBytes(appliance.FeedPath, rss(w.items[0]))
		w.refresh()
		w.wantAt(f, old, 1<<20)
		w.origin.PutBytes("/"+path, packListed(t, member{"disk.img", new}))
		w.origin.PutBytes(appliance.FeedPath, rss(w.items[0], item{"two", path}))
		w.refresh()
		w.newGeneration(new, "two-2", "disk.img")
		w.wantGeneration(f, old, new, "old EIO")
		w.wantAt(f, old, 0)
		again := w.open("two", "disk.img") // an overlay keeps its base
		w.wantAt(again, old, 0)
		w.wantAt(again, old, 1<<20)
	})
}

// TestH14FeedHasANewURL: the URL that the feed named expires, and the feed
// names another one, which is looked for at once and not at the next refresh. The feed's
// reader takes that for another package; a read that waits asks there for the same one.
func TestH14FeedHasANewURL(t *testing.T) {
	t.Parallel()
	disk := noise(changeSize, 44)
	archive := packListed(t, member{"disk.img", disk})
	w := bareWorld(t)
	w.origin.PutBytes("/signed-1/one.xvm", archive)
	w.origin.PutBytes(appliance.FeedPath, rss(item{"one", "signed-1/one.xvm"}))
	w.mount("complete=off", "refresh=1h")
	f := w.open("one", "disk.img")
	w.wantAt(f, disk, 0)
	w.origin.Inject(origin.Fault{Path: "/signed-1/*", Kind: origin.Status, Status: 403})
	w.origin.PutBytes("/signed-2/one.xvm", archive)
	w.origin.PutBytes(appliance.FeedPath, rss(item{"one", "signed-2/one.xvm"}))
	w.wantAt(f, disk, 4<<20) // it is the same archive there, and the read goes on
	w.newGeneration(disk, "one", "disk.img")
	w.wantAt(f, disk, 0)
}

// TestSilentServerAtMount: a server that says nothing delays the first open of what is
// cached for a moment only.
func TestSilentServerAtMount(t *testing.T) {
	t.Parallel()
	disk := noise(20<<16, 7)
	w := bareWorld(t)
	w.opts = append(w.opts, "complete=off")
	w.publish("one", packListed(t, member{"root.img", disk}))
	w.mount()
	w.wantFile(disk, "one", "root.img")
	w.umount()
	defer w.origin.Inject(origin.Fault{Kind: origin.Delay, Path: "/one.xvm", Delay: time.Hour})()
	w.mount()
	for range 3 {
		start := w.now()
		w.wantFile(disk, "one", "root.img")
		if took := w.now() - start; took > time.Minute {
			t.Errorf("it took %s", took)
		}
	}
}
