package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// What the tests make feeds and packages of.

// member is a file of a package.
type member struct {
	name    string
	content []byte
}

// noise is content that does not compress, the same for the same seed.
func noise(size int, seed byte) []byte {
	p := make([]byte, size)
	rng := rand.NewChaCha8([32]byte{seed})
	_, _ = rng.Read(p)
	return p
}

// lines is content that compresses well and is different everywhere.
func lines(size int, seed byte) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %d of %d: %x\n", i, seed, i*i*7919)
	}
	return b.Bytes()[:size]
}

// pack makes an archive as the simplest packager would.
func pack(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	at := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Mode: 0o644, Size: int64(len(m.content)), ModTime: at}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packListed is pack with a manifest of the members before them.
func packListed(t testing.TB, members ...member) []byte {
	t.Helper()
	return pack(t, append([]member{{"manifest.txt", sha1sums(members...)}}, members...)...)
}

// sha1sums is what sha1sum prints.
func sha1sums(members ...member) []byte {
	var b []byte
	for _, m := range members {
		b = fmt.Appendf(b, "%x  %s\n", sha1.Sum(m.content), m.name)
	}
	return b
}

func hexSHA256(p []byte) string { s := sha256.Sum256(p); return hex.EncodeToString(s[:]) }
func hexMD5(p []byte) string    { s := md5.Sum(p); return hex.EncodeToString(s[:]) }

// filter is what a program makes of its standard input.
func filter(t testing.TB, input []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testkit.Need(t, name), args...)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, stderr.Bytes())
	}
	return out
}

// command runs a program to its end, in dir, and returns what it said.
func command(t testing.TB, dir, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, name), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// item is an item of a feed: its title is its id, its date follows from its place.
type item struct {
	title, url string
}

// rss is a feed of items, oldest first.
func rss(items ...item) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0"?><rss version="2.0"><channel><title>test</title>` + "\n")
	for i, it := range items {
		at := time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC).Format(time.RFC1123Z)
		fmt.Fprintf(&b, `<item><title>%s</title><guid>%s</guid><pubDate>%s</pubDate><enclosure url="%s" length="1" type="application/x-xvm"/></item>`+"\n", it.title, it.title, at, it.url)
	}
	b.WriteString("</channel></rss>\n")
	return []byte(b.String())
}

// publish serves an archive as a release of its own, the newest.
func (w *world) publish(title string, archive []byte) {
	path := "/" + title + ".xvm"
	w.items = append(w.items, item{title, path[1:]})
	if w.app.Packages == nil {
		w.app.Packages = make(map[string][]byte)
	}
	w.app.Packages[path] = archive
	w.origin.PutBytes(path, archive)
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
}

// refresh has the mount look at the feed and waits until it has.
func (w *world) refresh() catalog.Status {
	w.t.Helper()
	attempt := func() time.Time {
		if at := w.status().Feed.LastAttempt; at != nil {
			return *at
		}
		return time.Time{}
	}
	before := attempt()
	for _, pid := range w.daemons() {
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			w.t.Fatal(err)
		}
	}
	testkit.Eventually(w.t, "the feed is looked at", 60*time.Second, func() bool { return attempt().After(before) })
	return w.status()
}

// latest is where the link points.
func (w *world) latest() string {
	target, err := os.Readlink(w.path("latest"))
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
	return target
}

// release is the status of a release that has been looked at, which may show a
// moment later.
func (w *world) release(name string) catalog.ReleaseStatus {
	w.t.Helper()
	for began := w.now(); ; time.Sleep(10 * time.Millisecond) {
		i := -1
		releases := w.status().Releases
		for n := range releases {
			if releases[n].Name == name {
				i = n
			}
		}
		if i >= 0 && (releases[i].State != "listed" || w.now()-began > 10*time.Second) {
			return releases[i]
		}
		if i < 0 && w.now()-began > time.Minute {
			break
		}
	}
	w.t.Fatalf("no release %s in the status", name)
	return catalog.ReleaseStatus{}
}

// allListed waits until every release has been looked at, which the mount does by itself: a
// test that counts what comes later would count it.
func (w *world) allListed() {
	w.t.Helper()
	testkit.Eventually(w.t, "all releases have been looked at", time.Minute, func() bool {
		return !slices.ContainsFunc(w.status().Releases, func(r catalog.ReleaseStatus) bool { return r.State == "listed" })
	})
}

// file is the status of a file of a release.
func (w *world) file(release, name string) image.Status {
	w.t.Helper()
	for _, f := range w.release(release).Files {
		if f.Name == name {
			return f
		}
	}
	w.t.Fatalf("no file %s/%s in the status", release, name)
	return image.Status{}
}

// wantFile compares a file of the mount with what was published, its size too.
func (w *world) wantFile(content []byte, name ...string) {
	w.t.Helper()
	path := w.path(name...)
	info, err := os.Stat(path)
	if err != nil {
		w.t.Error(err)
		return
	}
	if info.Size() != int64(len(content)) {
		w.t.Errorf("%s: stat says %d bytes, published were %d", path, info.Size(), len(content))
	}
	if !bytes.Equal(readAll(w.t, path), content) {
		w.t.Errorf("%s differs from what was published", path)
	}
}

// wantSoon is wantFile for a mount with a short timeo=, whose origin is slow on a busy machine.
func (w *world) wantSoon(content []byte, name ...string) {
	w.t.Helper()
	w.readSoon(name...) // the blocks are here then
	w.wantFile(content, name...)
}

// readSoon is readAll for such a mount.
func (w *world) readSoon(name ...string) (content []byte) {
	w.t.Helper()
	var err error
	testkit.Eventually(w.t, "a read of "+w.path(name...), time.Minute, func() bool {
		content, err = os.ReadFile(w.path(name...))
		return !errors.Is(err, syscall.EIO)
	})
	must(w.t, err)
	return content
}

// statSoon waits until a file is there, which such a mount may have to index first.
func (w *world) statSoon(name ...string) {
	w.t.Helper()
	testkit.Eventually(w.t, w.path(name...)+" is there", time.Minute, func() bool {
		_, err := os.Stat(w.path(name...))
		return err == nil
	})
}

// freePort is a port that nobody listens on unless told of it, until the end of the test.
func freePort(t testing.TB) string {
	t.Helper()
	address, kept, err := origin.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	_, port, _ := net.SplitHostPort(address)
	return port
}

// listening waits until somebody listens on port; false if ended comes first.
func listening(port string, ended <-chan struct{}) bool {
	for range 5000 {
		if c, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			c.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(20 * time.Millisecond):
		}
	}
	return false
}

// wantFailure runs a command that must end with the exit code given and one
// line on stderr that holds all the words; stdout must stay empty.
func wantFailure(t testing.TB, cmd *exec.Cmd, code int, words ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if got := exitCode(cmd.Run()); got != code {
		t.Errorf("%v: exit code %d, want %d", cmd.Args[1:], got, code)
	}
	said := stderr.String()
	t.Logf("%s", said)
	last := strings.TrimSuffix(said, "\n")
	foreground := len(cmd.Args) > 2 && cmd.Args[2] == "-f"
	if foreground { // whose stderr is also the log
		last = last[strings.LastIndex(last, "\n")+1:]
	}
	if !strings.HasPrefix(last, "vmcastfs: ") || strings.Contains(last, "\n") {
		t.Errorf("%v: not one sentence but\n%s", cmd.Args[1:], said)
	}
	for _, word := range words {
		if !strings.Contains(last, word) {
			t.Errorf("%v: %q is not in %q", cmd.Args[1:], word, last)
		}
	}
	if stdout.Len() > 0 {
		t.Errorf("%v: stdout has %q", cmd.Args[1:], stdout.String())
	}
}

// gzipStored is a gzip file of bytes that are not made smaller.
func gzipStored(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.NoCompression)
	if err == nil {
		_, err = z.Write(content)
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
