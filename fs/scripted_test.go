package fs

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/internal/fusetest"
)

// scriptedTree is a catalog over a server of our own. Reads of its files go
// through handles that keep a record and do what they are told.
type scriptedTree struct {
	*catalog.Catalog
	origin *origin.Server
	close  func()

	mu    sync.Mutex
	files map[string]*scriptedFile // by release and name; what was published last
}

// openTree makes a tree that keeps its cache in dir.
func openTree(dir string, releases ...*scriptedRelease) (_ *scriptedTree, err error) {
	t := &scriptedTree{origin: origin.New(), files: make(map[string]*scriptedFile)}
	var undo []func()
	t.close = func() {
		for _, fn := range undo {
			fn()
		}
	}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	if err := t.origin.Start(); err != nil {
		return nil, err
	}
	undo = append([]func(){func() { t.origin.Close() }}, undo...)
	st, err := store.Open(store.Options{Dir: filepath.Join(dir, "cache")})
	if err != nil {
		return nil, err
	}
	undo = append([]func(){func() { st.Close() }}, undo...)
	ca, err := cache.New(cache.Options{Store: st})
	if err != nil {
		return nil, err
	}
	undo = append([]func(){func() { ca.Close() }}, undo...)
	client, err := remote.NewClient(remote.Options{Timeo: time.Minute})
	if err != nil {
		return nil, err
	}
	undo = append([]func(){func() { client.Close() }}, undo...)
	t.Catalog = catalog.New(catalog.Config{
		FeedURL: t.origin.URL() + "/vmcast.xml", Store: st, Cache: ca, Remote: client, Refresh: time.Hour,
	})
	undo = append([]func(){t.Catalog.Close}, undo...)
	if err := t.publish(dir, releases...); err != nil {
		return nil, err
	}
	return t, t.Start(context.Background())
}

func newTree(t testing.TB, releases ...*scriptedRelease) *scriptedTree {
	t.Helper()
	fusetest.NoLeaks(t)
	tree, err := openTree(t.TempDir(), releases...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tree.close)
	return tree
}

// set makes releases the state of the feed.
func (t *scriptedTree) set(tb testing.TB, releases ...*scriptedRelease) {
	tb.Helper()
	if err := t.publish(tb.TempDir(), releases...); err != nil {
		tb.Fatal(err)
	}
	if err := t.Refresh(tb.Context()); err != nil {
		tb.Fatal(err)
	}
}

// publish puts the releases and a feed of them on the server. dir is for files that
// are needed meanwhile.
func (t *scriptedTree) publish(dir string, releases ...*scriptedRelease) error {
	var feed strings.Builder
	feed.WriteString(`<?xml version="1.0"?><rss version="2.0"><channel><title>test</title>`)
	for _, r := range releases {
		pkg, err := r.pack(dir)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(pkg)
		path := fmt.Sprintf("/%s-%x.xvm", r.name, sum[:8])
		t.origin.Put(path, gated{bytes.NewReader(pkg), r.block}, int64(len(pkg)), time.Time{}, "", "")
		r.tree, r.path = t, path
		date := ""
		if !r.published.IsZero() {
			date = "<pubDate>" + r.published.UTC().Format(time.RFC1123Z) + "</pubDate>"
		}
		fmt.Fprintf(&feed, `<item><guid isPermaLink="false">%[1]s</guid><title>%[1]s</title>%[2]s<enclosure url="%[3]s" length="%[4]d" type="application/octet-stream"/></item>`,
			r.name, date, t.origin.URL()+path, len(pkg))
		t.mu.Lock()
		for _, f := range r.files {
			t.files[r.name+"/"+f.name] = f
		}
		t.mu.Unlock()
	}
	feed.WriteString("</channel></rss>")
	t.origin.PutBytes("/vmcast.xml", []byte(feed.String()))
	return nil
}

// gated gives out nothing until open is closed; nil: it is open.
type gated struct {
	io.ReaderAt
	open chan struct{}
}

func (g gated) ReadAt(p []byte, off int64) (int, error) {
	if g.open != nil {
		<-g.open
	}
	return g.ReaderAt.ReadAt(p, off)
}

// reach puts scripted handles in the place of the catalog's.
func (t *scriptedTree) reach() reach {
	return reach{
		open: func(ctx context.Context, f *bundle.File) (image.Handle, error) {
			s := t.script(f)
			if s.openErr != nil {
				return nil, s.openErr
			}
			h, err := f.Open(ctx)
			if err != nil {
				return nil, err
			}
			s.opened.Add(1)
			return &scriptedHandle{Handle: h, f: s}, nil
		},
		inode: func(f *bundle.File) uint64 {
			if n := t.script(f).inode; n != 0 {
				return n
			}
			return f.Inode()
		},
	}
}

// script finds the script of a file, by what its release has published of it.
func (t *scriptedTree) script(f *bundle.File) *scriptedFile {
	source, _ := f.Attr("user.vmcast.source")
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, s := range t.files {
		release, name, _ := strings.Cut(key, "/")
		if name == f.Name() && strings.Contains(string(source), "/"+release+"-") {
			return s
		}
	}
	return new(scriptedFile) // one that is not scripted
}

// scriptedRelease is a release of a scriptedTree.
type scriptedRelease struct {
	name      string
	published time.Time
	files     []*scriptedFile
	raw       []byte        // the archive; nil: it is made of files
	block     chan struct{} // its archive gives out nothing until it is closed

	tree *scriptedTree // set when it is published
	path string
}

// asked counts the requests for the archive.
func (r *scriptedRelease) asked() int64 { return r.tree.origin.Stats(r.path).Requests }

// pack makes the archive: with tar, which knows holes.
func (r *scriptedRelease) pack(dir string) ([]byte, error) {
	if len(r.files) == 0 && r.raw == nil {
		r.raw = make([]byte, 1024) // an empty archive
	}
	if r.raw != nil {
		return r.raw, nil
	}
	dir, err := os.MkdirTemp(dir, "pack")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args := []string{"--sparse", "--format=posix", "-cf", "-", "-C", dir, "--"}
	for _, f := range r.files {
		if err := f.write(filepath.Join(dir, f.name)); err != nil {
			return nil, err
		}
		args = append(args, f.name)
	}
	out, err := exec.Command("tar", args...).Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("tar: %w: %s", err, exit.Stderr)
	}
	r.raw = out // another time, tar would make another one
	return out, err
}

// scriptedFile has data, with a hole from holeAt on for holeLen bytes, which are
// zeros in data, too.
type scriptedFile struct {
	name            string
	data            []byte
	mtime           time.Time
	inode           uint64 // not 0: in the place of the file's own
	holeAt, holeLen int64
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

func (f *scriptedFile) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	if f.holeLen > 0 {
		_, err = out.WriteAt(f.data[:f.holeAt], 0)
		if err == nil {
			_, err = out.WriteAt(f.data[f.holeAt+f.holeLen:], f.holeAt+f.holeLen)
		}
	} else {
		_, err = out.Write(f.data)
	}
	if err != nil {
		return err
	}
	return os.Chtimes(path, f.mtime, f.mtime)
}

// hole makes a hole of the file.
func (f *scriptedFile) hole(at, n int64) {
	f.holeAt, f.holeLen = at, n
	clear(f.data[at : at+n])
}

func (f *scriptedFile) fail(err error) { f.readErr.Store(&err) }

// complete gives the file a local copy, as if it were complete and verified.
func (f *scriptedFile) complete(t testing.TB) {
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

// scriptedHandle is an open file of the catalog, unless its script says otherwise.
type scriptedHandle struct {
	image.Handle
	f      *scriptedFile
	closed atomic.Bool
}

func (h *scriptedHandle) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
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
	if h.f.cut.Load() {
		return bytes.NewReader(h.f.data[:4096]).ReadAt(p, off)
	}
	return h.Handle.ReadAt(ctx, p, off)
}

func (h *scriptedHandle) PassthroughFile() (*os.File, bool) {
	local := h.f.local.Load()
	return local, local != nil
}

func (h *scriptedHandle) Close() error {
	if h.f.closeHook != nil {
		h.f.closeHook()
	}
	if h.closed.Swap(true) {
		panic("closed twice")
	}
	h.f.closed.Add(1)
	return h.Handle.Close()
}

// pattern is n bytes that differ from page to page.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8)*3 ^ byte(i>>16)*7 | 1
	}
	return b
}

func newFile(name string, n int) *scriptedFile {
	return &scriptedFile{
		name:    name,
		data:    pattern(n),
		mtime:   time.Unix(1600000000, 0),
		waiting: make(chan struct{}, 1),
	}
}

func newRelease(name string, files ...*scriptedFile) *scriptedRelease {
	return &scriptedRelease{name: name, published: time.Unix(1650000000, 0), files: files}
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

// mounted is a mounted tree.
type mounted struct {
	*Server
	dir string
	log *logBuffer
}

// mountTree mounts tree until the end of the test, which fails if the mount
// cannot be taken down or leaves something behind.
func mountTree(t testing.TB, tree *scriptedTree, change ...func(*Options)) *mounted {
	t.Helper()
	fusetest.Require(t)
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
		reach:  tree.reach(),
	}
	for _, f := range change {
		f(&o)
	}
	s, err := Mount(t.Context(), tree.Catalog, o)
	if err != nil {
		t.Fatal(err)
	}
	m.Server = s
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := s.Unmount(ctx, false); err != nil {
			t.Errorf("unmount: %v", err)
			s.Unmount(ctx, true)
		}
	})
	return m
}

func (m *mounted) path(elem ...string) string {
	return filepath.Join(append([]string{m.dir}, elem...)...)
}
