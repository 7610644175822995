package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestEditedItem: title, date and notes of a release are what the feed says now,
// and so is the order. The directory keeps its name, and its images stay the files
// that they are: whoever has one open goes on reading.
func TestEditedItem(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(200_000, 7)
	w.origin.PutBytes("/a.xvm", packListed(t, member{"disk.img", disk}))
	w.origin.PutBytes("/b.xvm", packListed(t, member{"disk.img", disk[1:]}))
	feed := func(items ...string) []byte {
		return []byte(`<rss version="2.0"><channel><title>c</title>` + strings.Join(items, "") + `</channel></rss>`)
	}
	item := func(id, title, date, notes string) string {
		if notes != "" {
			notes = "<description>" + notes + "</description>"
		}
		return fmt.Sprintf(`<item><guid>%s</guid><title>%s</title><pubDate>%s</pubDate>%s<enclosure url="%s.xvm" length="1" type="application/x-xvm"/></item>`, id, title, date, notes, id)
	}
	before := feed(item("a", "Debian 12", "2026-02-02", "first notes"), item("b", "Debian 13", "2026-02-01", ""))
	after := feed(item("b", "Debian 13", "2026-02-01", "now it has some"), item("a", "WITHDRAWN, do not boot", "2026-01-01 10:00", "It eats &lt;b&gt;data&lt;/b&gt;."))
	w.origin.PutBytes(appliance.FeedPath, before)
	w.mount()
	if got := w.latest(); got != "Debian-12" {
		t.Fatalf("latest is %q", got)
	}
	w.wantFile([]byte("first notes"), "Debian-12", "notes.html")
	w.wantFile(disk[1:], "Debian-13", "disk.img")
	if _, err := os.Stat(w.path("Debian-13", "notes.html")); !os.IsNotExist(err) {
		t.Errorf("notes of a release that has none: %v", err)
	}
	open, err := os.Open(w.path("Debian-12", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	oldNotes, err := os.Open(w.path("Debian-12", "notes.html"))
	if err != nil {
		t.Fatal(err)
	}
	defer oldNotes.Close()
	inode := func() uint64 {
		var st syscall.Stat_t
		if err := syscall.Stat(w.path("Debian-12", "disk.img"), &st); err != nil {
			t.Fatal(err)
		}
		return st.Ino
	}
	was := inode()

	w.origin.PutBytes(appliance.FeedPath, after)
	w.refresh()
	testkit.Eventually(t, "the order is the feed's", time.Minute, func() bool { return w.latest() == "Debian-13" })
	testkit.Eventually(t, "the notes are the feed's", time.Minute, func() bool {
		return string(readAll(t, w.path("Debian-12", "notes.html"))) == "It eats <b>data</b>."
	})
	testkit.Eventually(t, "notes appear", time.Minute, func() bool {
		b, err := os.ReadFile(w.path("Debian-13", "notes.html"))
		return err == nil && string(b) == "now it has some"
	})
	testkit.Eventually(t, "the date is the feed's", time.Minute, func() bool {
		info, err := os.Stat(w.path("Debian-12"))
		return err == nil && info.ModTime().UTC().Format(time.DateTime) == "2026-01-01 10:00:00"
	})
	if st := w.status(); len(st.Releases) != 2 || st.Releases[1].Title != "WITHDRAWN, do not boot" || st.Releases[1].Name != "Debian-12" || st.Releases[1].Generation != 1 {
		t.Errorf("%+v", st.Releases)
	}
	if inode() != was {
		t.Error("the image became another file")
	}
	got := make([]byte, len(disk))
	if _, err := open.ReadAt(got, 0); err != nil || string(got) != string(disk) {
		t.Errorf("the open image: %v", err)
	}
	if n, err := oldNotes.Read(got); err != nil || string(got[:n]) != "first notes" {
		t.Errorf("the open notes are %q, %v", got[:n], err)
	}

	// Notes that are taken back go.
	w.origin.PutBytes(appliance.FeedPath, before)
	w.refresh()
	testkit.Eventually(t, "notes go", time.Minute, func() bool {
		_, err := os.Stat(w.path("Debian-13", "notes.html"))
		return os.IsNotExist(err)
	})
	w.wantFile(disk, "Debian-12", "disk.img")
}
