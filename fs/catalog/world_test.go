package catalog

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/cache/testkit"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/pack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// site is a server with a feed, and the directories of a host that mounts it.
type site struct {
	t       testing.TB
	origin  *origin.Server
	items   []feed.Entry
	dir     string // of the cache
	sidecar string // Config.Sidecar
	log     logBuffer
	memory  int64
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, origin: origin.New(), dir: t.TempDir()}
	if err := s.origin.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.origin.Close() })
	return s
}

// release puts a package on the server and into the feed, a day after the one
// before.
func (s *site) release(id, path string, pkg []byte) {
	s.origin.PutBytes(path, pkg)
	s.item(feed.Entry{ID: id, Title: id, URL: s.origin.URL() + path, Length: int64(len(pkg)), Published: testTime.AddDate(0, 0, len(s.items))})
}

func (s *site) item(e feed.Entry) {
	s.items = append(s.items, e)
	s.publish(s.items...)
}

func (s *site) publish(items ...feed.Entry) {
	s.t.Helper()
	raw, err := feed.Channel{Title: "test", Items: items}.Marshal()
	if err != nil {
		s.t.Fatal(err)
	}
	s.origin.PutBytes("/vmcast.xml", raw)
}

// host is one process that has the feed open.
type host struct {
	*Catalog
	t     testing.TB
	site  *site
	close func()
}

// open opens the feed, as a mount does; the cache directory is that of the
// site.
func (s *site) open(change ...func(*Config)) *host {
	s.t.Helper()
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	st, err := store.Open(store.Options{Dir: s.dir, SyncEvery: 10 * time.Millisecond, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := cache.New(cache.Options{Store: st, Quiet: time.Millisecond, Memory: s.memory, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	client, err := remote.NewClient(remote.Options{Timeo: 30 * time.Second, Logger: log})
	if err != nil {
		s.t.Fatal(err)
	}
	cfg := Config{FeedURL: s.origin.URL() + "/vmcast.xml", Store: st, Cache: ca, Remote: client, Refresh: time.Hour, Sidecar: s.sidecar, Logger: log}
	for _, fn := range change {
		fn(&cfg)
	}
	h := &host{Catalog: New(cfg), t: s.t, site: s}
	var once sync.Once
	h.close = func() {
		once.Do(func() {
			h.Close()
			ca.Close()
			client.Close()
			st.Close()
		})
	}
	s.t.Cleanup(h.close)
	if err := h.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	return h
}

// docName names the kept index of a release.
func docName(r *Release) string { return r.id + "\n" + r.key() }

func (h *host) rel(name string) *Release {
	h.t.Helper()
	r, ok := h.Snapshot().Release(name)
	if !ok {
		h.t.Fatalf("there is no release %q", name)
	}
	return r
}

func (h *host) pkg(name string) *bundle.Package {
	h.t.Helper()
	p, err := h.rel(name).Package(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *host) file(release, name string) *bundle.File {
	h.t.Helper()
	f, err := h.pkg(release).Lookup(h.t.Context(), name)
	if err != nil {
		h.t.Fatalf("%s/%s: %v", release, name, err)
	}
	return f
}

// listed finds a file without waiting for its size.
func (h *host) listed(release, name string) *bundle.File {
	h.t.Helper()
	for _, f := range h.pkg(release).All() {
		if f.Name() == name {
			return f
		}
	}
	h.t.Fatalf("%s/%s is not listed", release, name)
	return nil
}

// key is that of an image in the cache.
func (h *host) key(release, name string) string {
	h.t.Helper()
	key, _ := h.file(release, name).Attr("user.vmcast.key")
	return string(key)
}

func (h *host) warnings(release string) []string {
	h.t.Helper()
	warnings, _ := h.pkg(release).Faults()
	return warnings
}

// settle waits for the look at the images behind the listing: from then on
// every request is somebody's read.
func (h *host) settle(release string) {
	h.t.Helper()
	_, _ = h.pkg(release).Lookup(h.t.Context(), "disk.img")
}

// open opens a file until the end of the test.
func (h *host) open(release, name string) image.Handle {
	h.t.Helper()
	f, err := h.file(release, name).Open(h.t.Context())
	if err != nil {
		h.t.Fatalf("%s/%s: %v", release, name, err)
	}
	h.t.Cleanup(func() { f.Close() })
	return f
}

// read reads a whole file.
func (h *host) read(release, name string) []byte {
	h.t.Helper()
	f := h.file(release, name)
	fh, err := f.Open(h.t.Context())
	if err != nil {
		h.t.Fatalf("%s/%s: %v", release, name, err)
	}
	defer fh.Close()
	p := make([]byte, f.Size())
	if n, err := fh.ReadAt(h.t.Context(), p, 0); err != nil && err != io.EOF || n != len(p) {
		h.t.Fatalf("%s/%s: %d bytes, %v", release, name, n, err)
	}
	return p
}

// complete fetches and checks a whole file.
func (h *host) complete(release, name string) error {
	h.t.Helper()
	fh := h.open(release, name)
	defer fh.Close()
	return fh.(interface{ Complete(context.Context) error }).Complete(h.t.Context())
}

// shows waits until a listing shows these files, after a file of the release was opened.
func (h *host) shows(release, files string) {
	h.t.Helper()
	h.pkg(release).Opened()
	eventually(h.t, "the directory shows "+files, func() bool { return h.names(release) == files })
}

// names are the files that a listing shows.
func (h *host) names(release string) string {
	h.t.Helper()
	var names []string
	for _, f := range h.pkg(release).Files() {
		names = append(names, f.Name())
	}
	return strings.Join(names, " ")
}

// logBuffer keeps what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// file is a member of a package made by hand.
type file struct {
	name    string
	content []byte
}

func tarOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content)), ModTime: testTime}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// manifestOf lists files by SHA-1.
func manifestOf(files ...file) file {
	var b bytes.Buffer
	for _, f := range files {
		fmt.Fprintf(&b, "%x  %s\n", sha1.Sum(f.content), f.name)
	}
	return file{"manifest.txt", b.Bytes()}
}

func gz(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed) // the race detector makes the better ones very slow
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// packed makes a package with a block list.
func packed(t testing.TB, compress bool, key *xvm.Signer, images ...file) []byte {
	t.Helper()
	o := pack.Options{Description: []byte("<xvm><name>test</name></xvm>"), Time: testTime, Compress: compress, TempDir: t.TempDir()}
	for _, f := range images {
		o.Inputs = append(o.Inputs, pack.Input{Name: f.name, Size: int64(len(f.content)), Content: bytes.NewReader(f.content)})
	}
	if key != nil {
		o.Sign = pack.KeySign(key)
	}
	var b bytes.Buffer
	if _, err := pack.Pack(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// diskImage is a disk: of every four blocks one is zeros, and one compresses.
func diskImage(size int, seed uint64) []byte {
	p := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	const run = 64 << 10
	for i := 0; i*run < size; i++ {
		q := p[i*run : min(size, i*run+run)]
		switch i % 4 {
		case 1:
			for j := 0; j+64 <= len(q); j += 64 {
				copy(q[j:], fmt.Sprintf("seed %d block %d line %d", seed, i, j))
			}
		case 3:
		default:
			r.Read(q)
		}
	}
	return p
}

func md5hex(p []byte) string { s := md5.Sum(p); return hex.EncodeToString(s[:]) }

func mustWrite(t testing.TB, path string, p []byte) {
	t.Helper()
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what happens behind a call.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, what, time.Minute, ok)
}
