package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"vmcastfs/cmd/internal/appliance"
)

// The hostile tests give the built binary what research and imagination say a
// stranger may send. The table of all of them is in testdata/hostile.txt.

// wantPlain fails if text has anything that a terminal may act upon, or that
// makes it look like another text.
func wantPlain(t testing.TB, what, text string) {
	t.Helper()
	if !utf8.ValidString(text) {
		t.Errorf("%s is not UTF-8: %.200q", what, text)
	}
	for i, r := range text {
		if r != '\n' && r != '\t' && !unicode.IsPrint(r) {
			t.Errorf("%s has the character %U: %q", what, r, text[max(0, i-80):min(len(text), i+20)])
			return
		}
	}
}

// wantName fails unless a name is one component that needs no quoting anywhere.
func wantName(t testing.TB, name string) {
	t.Helper()
	wantPlain(t, "a name", name)
	if name == "" || len(name) > 255 || strings.HasPrefix(name, "-") || strings.HasPrefix(name, ".") && name != ".vmcastfs" ||
		strings.ContainsAny(name, "/\\ ,:;%$`'\"*?[]{}()<>|&!#=~\n\t") {
		t.Errorf("name %q", name)
	}
}

// hostileItem is an item of a feed with all its text as given.
type hostileItem struct {
	title, id, date, notes, enclosures string
}

// enclosure is an enclosure element.
func enclosure(url string) string {
	return `<enclosure url="` + html.EscapeString(url) + `" length="1" type="application/x-xvm"/>`
}

func hostileFeed(items ...hostileItem) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?><rss version="2.0"><channel><title>hostile</title>` + "\n")
	for i, it := range items {
		if it.date == "" {
			it.date = time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.RFC1123Z)
		}
		fmt.Fprintf(&b, "<item><title>%s</title><guid>%s</guid><pubDate>%s</pubDate><description>%s</description>%s</item>\n",
			it.title, it.id, it.date, it.notes, it.enclosures)
	}
	b.WriteString("</channel></rss>\n")
	return []byte(b.String())
}

// serve puts a feed on the server.
func (w *world) serve(feed []byte) { w.origin.PutBytes(appliance.FeedPath, feed) }

// wantTame walks the whole mount and holds everything in it to what a mount
// may show: directories and files, readable and nothing else, of safe names.
func (w *world) wantTame() (files int) {
	w.t.Helper()
	err := filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // of a release that is rejected
		}
		rel, _ := filepath.Rel(w.dir, path)
		if rel == "." {
			return nil
		}
		wantPlain(w.t, "a file name", rel)
		if strings.ContainsAny(d.Name(), ",\\") || strings.HasPrefix(d.Name(), "-") {
			w.t.Errorf("file name %q", rel)
		}
		info, err := d.Info()
		if err != nil {
			w.t.Error(err)
			return nil
		}
		switch mode := info.Mode(); {
		case rel == "latest" && mode&fs.ModeSymlink != 0:
		case mode.IsDir() && mode.Perm() == 0o555, mode.IsRegular() && mode.Perm() == 0o444 && mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky) == 0:
		default:
			w.t.Errorf("%s has mode %v", rel, mode)
		}
		if info.Size() < 0 || info.Size() > 1<<46 {
			w.t.Errorf("%s has size %d", rel, info.Size())
		}
		files++
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
	return files
}

// tarball writes archives by hand, wrong ones too.
type tarball struct{ bytes.Buffer }

// entry writes a header, changed by mend before its sum is made, and content.
func (b *tarball) entry(flag byte, name string, size int64, content string, mend ...func(h []byte)) *tarball {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", size))
	copy(h[136:], "14524633000\x00")
	h[156] = flag
	copy(h[257:], "ustar\x0000")
	for _, f := range mend {
		f(h)
	}
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	b.Write(h)
	b.WriteString(content)
	b.Write(make([]byte, -len(content)&511))
	return b
}

func (b *tarball) file(name, content string) *tarball {
	return b.entry(tar.TypeReg, name, int64(len(content)), content)
}

func (b *tarball) link(flag byte, name, to string) *tarball {
	return b.entry(flag, name, 0, "", func(h []byte) { copy(h[157:], to) })
}

// pax writes an extended header of one record.
func (b *tarball) pax(key, value string) *tarball {
	record := paxRecord(key, value)
	return b.entry('x', "x", int64(len(record)), record)
}

func paxRecord(key, value string) string {
	record := fmt.Sprintf(" %s=%s\n", key, value)
	for n := 0; ; n++ {
		if s := fmt.Sprint(len(record)+n) + record; len(s) == len(record)+n {
			return s
		}
	}
}

func (b *tarball) end() []byte {
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// residentKiB is how much memory a process had at most.
func residentKiB(t testing.TB, pid int) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib
		}
	}
	t.Fatal("no VmHWM")
	return 0
}
