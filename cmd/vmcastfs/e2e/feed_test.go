package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestFeedDialects mounts the same package by every kind of feed.
func TestFeedDialects(t *testing.T) {
	disk := noise(300_000, 1)
	archive := packListed(t, member{"disk.img", disk})
	item := func(inner string) string {
		return `<?xml version="1.0"?><rss version="2.0"><channel><title>c</title><ttl>5</ttl>` + inner + `</channel></rss>`
	}
	const at = "2016-11-07 09:51:30"
	for name, c := range map[string]struct {
		feed string
		dir  string
		gzip bool
	}{
		"rss": {item(`<item><title>Debian 12</title><guid>g</guid><pubDate>Mon, 07 Nov 2016 09:51:30 +0000</pubDate>
			<description>&lt;b&gt;notes&lt;/b&gt;</description>
			<enclosure url="URL/pkg/one.xvm" length="1" type="application/x-xvm"/></item>`), "Debian-12", false},
		"relative enclosure and gzip transfer": {item(`<item><title>Debian 12</title><pubDate>Mon, 07 Nov 2016 09:51:30 +0000</pubDate>
			<enclosure url="pkg/one.xvm" length="1" type="application/x-xvm"/></item>`), "Debian-12", true},
		"atom": {`<feed xmlns="http://www.w3.org/2005/Atom"><title>c</title><id>c</id><updated>2016-11-07T09:51:30Z</updated>
			<entry><title>Debian 12</title><id>urn:1</id><published>2016-11-07T09:51:30Z</published><updated>2017-01-01T00:00:00Z</updated>
			<link rel="enclosure" href="/pkg/one.xvm" type="application/x-xvm" length="1"/></entry></feed>`, "Debian-12", false},
		"json": {`{"version":"https://jsonfeed.org/version/1.1","title":"c","items":[{"id":"1","title":"Debian 12",
			"date_published":"2016-11-07T09:51:30Z","attachments":[{"url":"pkg/one.xvm","mime_type":"application/x-xvm"}]}]}`, "Debian-12", false},
		"enomalism": {item(`<item><title>Debian 12</title><guid>g</guid><pubDate>Mon, 07 Nov 2016 09:51:30 GMT</pubDate>
			<enclosure url="URL/pkg/one.xvm2" length="1" type="application/enomalism2-xvm2"/></item>`), "Debian-12", false},
		"archipel": {`<rss version="2.0"><channel><title>node</title><uuid>0c4c1c0a-0d9f-11e6-9e58-000000000001</uuid>
			<item><title>Debian & friends</title><uuid>0c4c1c0a-0d9f-11e6-9e58-000000000002</uuid>
			<pubDate>2016-11-07 09:51:30.123456</pubDate>
			<enclosure url="URL/pkg/one.xvm2" length="1" type="application/enomalism2-xvm2"/></item></channel></rss>`, "Debian-friends", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			w.origin.PutBytes("/pkg/one.xvm", archive)
			w.origin.PutBytes("/pkg/one.xvm2", archive)
			feed := []byte(strings.ReplaceAll(c.feed, "URL", w.origin.URL()))
			w.origin.PutBytes(appliance.FeedPath, feed)
			if c.gzip {
				w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.GzipEncoding})
			}
			w.mount()
			if got := w.latest(); got != c.dir {
				t.Fatalf("latest is %q, want %q", got, c.dir)
			}
			w.wantFile(feed, "feed.xml")
			w.wantFile(disk, c.dir, "disk.img")
			info, err := os.Stat(w.path(c.dir))
			if err != nil {
				t.Fatal(err)
			}
			if got := info.ModTime().UTC().Format(time.DateTime); got != at {
				t.Errorf("the release is from %s, published was %s", got, at)
			}
			if name == "rss" {
				w.wantFile([]byte("<b>notes</b>"), c.dir, "notes.html")
				feed := w.status().Feed
				if wait := feed.Next.Sub(*feed.LastAttempt); wait < 5*time.Minute || wait > 6*time.Minute {
					t.Errorf("ttl is 5 minutes, the next look comes after %s", wait)
				}
			}
		})
	}
}

// TestCharsetInTheHeader mounts a feed whose character set only the server tells;
// a mount without the server reads it in the same way.
func TestCharsetInTheHeader(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.origin.PutBytes("/one.xvm", packListed(t, member{"disk.img", noise(1000, 1)}))
	feed := []byte("<rss version=\"2.0\"><channel><title>c</title><item><title>\xc4\xe5\xe1\xe8\xe0\xed</title><guid>g</guid>" +
		`<enclosure url="one.xvm" length="1" type="application/x-xvm"/></item></channel></rss>`)
	w.origin.Put(appliance.FeedPath, bytes.NewReader(feed), int64(len(feed)), time.Now(), `"1"`, "text/xml; charset=windows-1251")
	w.mount()
	if got := w.latest(); got != "Дебиан" {
		t.Errorf("latest is %q", got)
	}
	w.wantFile(feed, "feed.xml")
	w.umount()
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 404})
	w.mount()
	if got := w.latest(); got != "Дебиан" {
		t.Errorf("without the server latest is %q", got)
	}
}

// TestLocalFeed mounts a feed that is a file, given relative to where the
// command runs, with packages relative to the feed.
func TestLocalFeed(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	dir := t.TempDir()
	disk := noise(200_000, 2)
	write := func(name string, content []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("packages/one two.xvm", packListed(t, member{"disk.img", disk}))
	write("vmcast.xml", rss(item{"one", "packages/one%20two.xvm"}))
	cmd := exec.Command(binary, "mount", "-o", w.options(), "./vmcast.xml", w.dir)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command(binary, "umount", "-l", w.dir).Run() })
	w.wantFile(disk, "latest", "disk.img")

	write("packages/two.xvm", packListed(t, member{"disk.img", disk[1:]}))
	write("vmcast.xml", rss(item{"one", "packages/one%20two.xvm"}, item{"two", "packages/two.xvm"}))
	w.refresh()
	testkit.Eventually(t, "the new release is the latest", time.Minute, func() bool { return w.latest() == "two" })
	w.wantFile(disk[1:], "two", "disk.img")
}

// TestRefresh changes the feed under a mount.
func TestRefresh(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(200_000, 3)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("refresh=1s")
	hold(t, w.path("one", "disk.img"))

	testkit.Eventually(t, "asking again is conditional", time.Minute, func() bool {
		for _, r := range w.origin.Log() {
			if r.Path == appliance.FeedPath && r.Header.Get("If-None-Match") != "" && r.Status == 304 {
				return true
			}
		}
		return false
	})
	w.publish("two", packListed(t, member{"disk.img", disk[1:]}))
	testkit.Eventually(t, "the new release appears by itself", time.Minute, func() bool { return w.latest() == "two" })
	w.wantFile(disk[1:], "latest", "disk.img")
	w.wantFile(disk, "one", "disk.img")

	// A release that leaves the feed stays while it is in use.
	w.origin.PutBytes(appliance.FeedPath, rss(w.items[1]))
	testkit.Eventually(t, "the feed is the new one", time.Minute, func() bool {
		return !bytes.Contains(readAll(t, w.path("feed.xml")), []byte("one"))
	})
	w.wantFile(disk, "one", "disk.img")
}

// TestBadFeedReplacesNothing serves all kinds of nonsense after a good feed.
func TestBadFeedReplacesNothing(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(100_000, 4)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	good := rss(w.items...)
	w.mount()
	check := func(what string) {
		t.Helper()
		st := w.status().Feed
		if !st.Stale || st.LastError == "" {
			t.Errorf("%s: the status does not say so: %+v", what, st)
		}
		if got := w.latest(); got != "one" {
			t.Errorf("%s: latest is %q", what, got)
		}
		w.wantFile(good, "feed.xml")
		w.wantFile(disk, "one", "disk.img")
	}
	for what, body := range map[string][]byte{
		"a login page": []byte("<!DOCTYPE html><html><body>Please log in</body></html>"),
		"half a feed":  good[:len(good)/2],
		"nothing":      {},
		"no releases":  rss(),
		"binary":       noise(5000, 5),
	} {
		w.origin.PutBytes(appliance.FeedPath, body)
		w.refresh()
		check(what)
	}
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 404})
	w.refresh()
	check("404")

	// Nor does a remount forget it.
	w.umount()
	w.mount()
	check("after a remount")
}

// TestXVM2 is a package as Enomaly's packager wrote it: the manifest speaks of
// the plain disks, by MD5, sometimes of their first MiB only.
func TestXVM2(t *testing.T) {
	t.Parallel()
	const description = `<domain type="kvm"><name>vm</name><os><type>hvm</type><boot dev="hd"/></os><devices>
<disk type="file" device="disk"><source file="hd0.img.gz"/><target dev="hda"/></disk></devices></domain>`
	disk := lines(3<<19, 1)
	make2 := func(sum string) []byte {
		return pack(t,
			member{"description.xml", []byte(description)},
			member{"manifest.txt", fmt.Appendf(nil, "hd0.img %d %s\n", len(disk), sum)},
			member{"hd0.img.gz", filter(t, disk, "gzip", "-9")},
		)
	}
	w := bareWorld(t)
	w.publish("right", make2(hexMD5(disk)))
	w.publish("prefix", make2(hexMD5(disk[:1<<20])))
	w.publish("wrong", make2(hexMD5(disk[1:])))
	w.mount()

	// Two requests are enough to know the plain size, which the manifest tells.
	// There may be more behind them.
	w.origin.ResetStats()
	remove := w.origin.Inject(origin.Fault{Path: "/right.xvm", Kind: origin.Status, Status: 503, Skip: 2})
	late := time.AfterFunc(2*time.Minute, func() {
		t.Error("the size is not known after two requests")
		remove()
	})
	info, err := os.Stat(w.path("right", "hd0.img"))
	late.Stop()
	if err != nil || info.Size() != int64(len(disk)) {
		t.Fatalf("stat: %v, %v", info, err)
	}
	if st := w.origin.Stats("/right.xvm"); st.BytesSent > 256<<10 {
		t.Errorf("%d bytes to know the plain size", st.BytesSent)
	}
	remove()
	for _, release := range []string{"right", "prefix", "wrong"} {
		hold(t, w.path(release, "hd0.img"))
	}
	for release, want := range map[string]struct{ state, note string }{
		"right":  {"verified", "md5 of the plain content matches"},
		"prefix": {"unverified", "only the first 1048576 bytes"},
		"wrong":  {"corrupt", "does not match"},
	} {
		path := w.path(release, "hd0.img")
		testkit.Eventually(t, release+" is "+want.state, time.Minute, func() bool { return attr(path, "state") == want.state })
		if note := w.file(release, "hd0.img").Note; !strings.Contains(note, want.note) {
			t.Errorf("%s: the note is %q", release, note)
		}
		if release == "wrong" {
			if _, err := os.ReadFile(path); err == nil {
				t.Error("a disk that does not match its manifest can be read")
			}
			continue
		}
		w.wantFile(disk, release, "hd0.img")
		w.wantFile([]byte(description), release, "description.xml")
	}
}

// TestRetryAfterOfTheFeed: a server that says when to come back for the feed is not asked
// before.
func TestRetryAfterOfTheFeed(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", noise(1<<20, 28)}))
	w.mount("complete=off", "refresh=1s")
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503, RetryAfter: "1800"})
	testkit.Eventually(t, "the feed cannot be had", time.Minute, func() bool { return w.status().Feed.LastError != "" })
	testkit.Eventually(t, "the next look at the feed is when the server said", time.Minute, func() bool {
		feed := w.status().Feed
		return feed.Next != nil && feed.LastAttempt != nil && feed.Next.Sub(*feed.LastAttempt) >= 30*time.Minute
	})
}
