package fs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/fs/internal/fusetest"
)

// fakeTree is a Tree in memory.
type fakeTree struct {
	mu     sync.Mutex
	snap   *fakeSnapshot
	subs   map[int]func()
	next   int
	status func() []byte
	unsubs atomic.Int64
}

func newFakeTree(releases ...*fakeRelease) *fakeTree {
	t := &fakeTree{subs: make(map[int]func())}
	t.set(&fakeSnapshot{feed: []byte("<rss/>"), time: time.Unix(1700000000, 0), releases: releases})
	return t
}

func (t *fakeTree) Snapshot() Snapshot {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.snap
}

func (t *fakeTree) set(s *fakeSnapshot) {
	t.mu.Lock()
	t.snap = s
	var subs []func()
	for _, f := range t.subs {
		subs = append(subs, f)
	}
	t.mu.Unlock()
	for _, f := range subs {
		f()
	}
}

func (t *fakeTree) Subscribe(f func()) func() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.next++
	n := t.next
	t.subs[n] = f
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.subs, n)
		t.unsubs.Add(1)
	}
}

func (t *fakeTree) StatusJSON() []byte {
	if t.status == nil {
		return []byte("{}\n")
	}
	return t.status()
}

type fakeSnapshot struct {
	feed     []byte
	time     time.Time
	releases []*fakeRelease
}

func (s *fakeSnapshot) FeedXML() []byte     { return s.feed }
func (s *fakeSnapshot) FeedTime() time.Time { return s.time }

func (s *fakeSnapshot) Releases() []Release {
	var list []Release
	for _, r := range s.releases {
		list = append(list, r)
	}
	return list
}

func (s *fakeSnapshot) Release(name string) (Release, bool) {
	for _, r := range s.releases {
		if r.name == name {
			return r, true
		}
	}
	return nil, false
}

func (s *fakeSnapshot) Latest() string {
	if len(s.releases) == 0 {
		return ""
	}
	return s.releases[0].name
}

type fakeRelease struct {
	name       string
	generation uint64
	published  time.Time
	files      []*fakeFile
	block      chan struct{} // index only once it is closed
	indexed    atomic.Bool
	calls      atomic.Int64
	err        error
	lookups    map[string]error // answers of Lookup for names not in files
}

func (r *fakeRelease) Name() string         { return r.name }
func (r *fakeRelease) Published() time.Time { return r.published }
func (r *fakeRelease) Generation() uint64   { return r.generation }

func (r *fakeRelease) Package(ctx context.Context) (Package, error) {
	r.calls.Add(1)
	if r.block != nil {
		select {
		case <-r.block:
		case <-ctx.Done():
			return nil, fmt.Errorf("index: %w", ctx.Err())
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	r.indexed.Store(true)
	return fakePackage{r}, nil
}

func (r *fakeRelease) Peek() (Package, bool) {
	if !r.indexed.Load() {
		return nil, false
	}
	return fakePackage{r}, true
}

type fakePackage struct{ r *fakeRelease }

func (p fakePackage) Files() []File {
	var list []File
	for _, f := range p.r.files {
		list = append(list, f)
	}
	return list
}

func (p fakePackage) Lookup(_ context.Context, name string) (File, error) {
	for _, f := range p.r.files {
		if f.name == name {
			return f, nil
		}
	}
	if err := p.r.lookups[name]; err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%q: %w", name, iofs.ErrNotExist)
}

// fakeFile serves data, with a hole from holeAt on for holeLen bytes.
type fakeFile struct {
	name            string
	data            []byte
	mtime           time.Time
	inode           uint64
	holeAt, holeLen int64
	attrs           map[string]string
	local           atomic.Pointer[os.File]
	openErr         error

	reads, opened, closed atomic.Int64
	readErr               atomic.Pointer[error]
	hang                  atomic.Bool // reads wait for their context
	cut                   atomic.Bool // there is less than Size says
	waiting               chan struct{}
	readHook              func(off int64)
	closeHook             func()
}

func (f *fakeFile) OfFeed() bool       { return false }
func (f *fakeFile) Name() string       { return f.name }
func (f *fakeFile) Size() int64        { return int64(len(f.data)) }
func (f *fakeFile) ModTime() time.Time { return f.mtime }
func (f *fakeFile) Inode() uint64      { return f.inode }
func (f *fakeFile) Blocks() int64      { return (f.Size() - f.holeLen + 511) / 512 }

func (f *fakeFile) Attr(name string) ([]byte, bool) {
	v, ok := f.attrs[name]
	return []byte(v), ok
}

func (f *fakeFile) Open(context.Context) (Handle, error) {
	if f.openErr != nil {
		return nil, f.openErr
	}
	f.opened.Add(1)
	return &fakeHandle{f: f}, nil
}

func (f *fakeFile) fail(err error) { f.readErr.Store(&err) }

// complete gives the file a local copy, as if it were complete and verified.
func (f *fakeFile) complete(t testing.TB) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "local")
	if err := os.WriteFile(path, f.data, 0o600); err != nil {
		t.Fatal(err)
	}
	local, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	f.local.Store(local)
}

type fakeHandle struct {
	f      *fakeFile
	closed atomic.Bool
}

func (h *fakeHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if h.closed.Load() {
		panic("read after close")
	}
	h.f.reads.Add(1)
	if h.f.readHook != nil {
		h.f.readHook(off)
	}
	if h.f.hang.Load() {
		done := ctx.Done()
		select {
		case h.f.waiting <- struct{}{}:
		default:
		}
		<-done
		return 0, ctx.Err()
	}
	if err := h.f.readErr.Load(); err != nil {
		return 0, *err
	}
	data := h.f.data
	if h.f.cut.Load() {
		data = data[:4096]
	}
	return bytes.NewReader(data).ReadAt(p, off)
}

func (h *fakeHandle) SeekData(off int64) (int64, error) {
	if end := h.f.holeAt + h.f.holeLen; off >= h.f.holeAt && off < end {
		return end, nil
	}
	return off, nil
}

func (h *fakeHandle) SeekHole(off int64) (int64, error) {
	switch {
	case h.f.holeLen == 0 || off >= h.f.holeAt+h.f.holeLen:
		return h.f.Size(), nil
	case off < h.f.holeAt:
		return h.f.holeAt, nil
	}
	return off, nil
}

func (h *fakeHandle) PassthroughFile() (*os.File, bool) {
	local := h.f.local.Load()
	return local, local != nil
}

func (h *fakeHandle) Close() error {
	if h.f.closeHook != nil {
		h.f.closeHook()
	}
	if h.closed.Swap(true) {
		panic("closed twice")
	}
	h.f.closed.Add(1)
	return nil
}

// pattern is n bytes that differ from page to page.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*3 ^ byte(i>>16)*7 | 1
	}
	return b
}

func newFile(name string, n int) *fakeFile {
	return &fakeFile{
		name:    name,
		data:    pattern(n),
		mtime:   time.Unix(1600000000, 5000),
		inode:   identity(0, "", 0, name).Ino,
		waiting: make(chan struct{}, 1),
	}
}

func newRelease(name string, files ...*fakeFile) *fakeRelease {
	return &fakeRelease{name: name, generation: 1, published: time.Unix(1650000000, 0), files: files}
}

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

// mounted is a mounted fake tree.
type mounted struct {
	*Server
	dir string
	log *logBuffer
}

// mountTree mounts tree until the end of the test, which fails if the mount
// cannot be taken down or leaves something behind.
func mountTree(t testing.TB, tree *fakeTree, change ...func(*Options)) *mounted {
	t.Helper()
	fusetest.Require(t)
	fusetest.NoLeaks(t)
	m := &mounted{dir: t.TempDir(), log: new(logBuffer)}
	var sink io.Writer = m.log
	if testing.Verbose() {
		sink = io.MultiWriter(m.log, os.Stderr)
	}
	o := Options{
		Dir:    m.dir,
		Source: "http://example.org/vmcast.xml",
		Logger: slog.New(slog.NewTextHandler(sink, nil)),
		Errors: []ErrorRule{{Err: errCorrupt, Errno: 5, Corrupt: true}, {Err: errRefused, Errno: 13}},
	}
	for _, f := range change {
		f(&o)
	}
	s, err := Mount(t.Context(), tree, o)
	if err != nil {
		t.Fatal(err)
	}
	m.Server = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Unmount(ctx, false); err != nil {
			t.Errorf("unmount: %v", err)
			s.Unmount(ctx, true)
		}
		if n := tree.unsubs.Load(); n == 0 {
			t.Error("still subscribed to the tree")
		}
	})
	return m
}

func (m *mounted) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}
