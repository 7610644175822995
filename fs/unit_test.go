package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/fs/internal/fusetest"
)

func TestIOMode(t *testing.T) {
	type step struct {
		open    byte // handle to open, or 0
		offered bool // with a local file
		close   byte
		mode    byte   // expected after an open: 'c' or 'p'
		closed  string // expected to be closed by a close
	}
	for _, c := range []struct {
		name  string
		steps []step
	}{
		{"one cached", []step{{open: 'a', mode: 'c'}, {close: 'a', closed: "a"}}},
		{"one passthrough", []step{{open: 'a', offered: true, mode: 'p'}, {close: 'a', closed: "a"}}},
		{"completes while open", []step{
			{open: 'a', mode: 'c'}, {open: 'b', offered: true, mode: 'c'}, {close: 'a', closed: "a"},
			{open: 'c', offered: true, mode: 'c'}, {close: 'b', closed: "b"}, {close: 'c', closed: "c"},
			{open: 'd', offered: true, mode: 'p'}, {close: 'd', closed: "d"},
		}},
		{"owner goes first", []step{
			{open: 'a', offered: true, mode: 'p'}, {open: 'b', mode: 'p'}, {close: 'a'},
			{open: 'c', offered: true, mode: 'p'}, {close: 'c', closed: "c"}, {close: 'b', closed: "ba"},
			{open: 'd', mode: 'c'}, {close: 'd', closed: "d"},
		}},
		{"owner goes last", []step{
			{open: 'a', offered: true, mode: 'p'}, {open: 'b', offered: true, mode: 'p'},
			{close: 'b', closed: "b"}, {close: 'a', closed: "a"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m ioMode
			handles := map[byte]*scriptedHandle{}
			files := map[*os.File]byte{}
			var current *os.File
			for i, s := range c.steps {
				if s.open != 0 {
					h := &scriptedHandle{}
					handles[s.open] = h
					var offer *os.File
					if s.offered {
						offer = new(os.File)
						files[offer] = s.open
					}
					if idle := m.idle(); idle {
						current = offer
					}
					got := m.opened(h, offer)
					if (got != nil) != (s.mode == 'p') || got != current {
						t.Fatalf("step %d: backing file of %q", i, files[got])
					}
					continue
				}
				var closed []byte
				for _, h := range m.released(handles[s.close]) {
					for name, known := range handles {
						if h == known {
							closed = append(closed, name)
						}
					}
				}
				if string(closed) != s.closed {
					t.Fatalf("step %d closes %q, want %q", i, closed, s.closed)
				}
			}
			if !m.idle() {
				t.Error("not idle in the end")
			}
		})
	}
}

func TestErrno(t *testing.T) {
	live := context.Background()
	dead, cancel := context.WithCancel(live)
	cancel()
	rules := []ErrorRule{{Err: errCorrupt, Errno: syscall.EIO, Corrupt: true}, {Err: errRefused, Errno: syscall.EACCES}}
	for _, c := range []struct {
		ctx     context.Context
		err     error
		want    syscall.Errno
		corrupt bool
	}{
		{live, nil, 0, false},
		{live, fmt.Errorf("x: %w", errCorrupt), syscall.EIO, true},
		{live, fmt.Errorf("x: %w", errRefused), syscall.EACCES, false},
		{dead, fmt.Errorf("x: %w", errRefused), syscall.EACCES, false},
		{dead, fmt.Errorf("x: %w", context.Canceled), syscall.EINTR, false},
		{live, context.Canceled, syscall.EIO, false}, // somebody else's wait
		{live, context.DeadlineExceeded, syscall.EIO, false},
		{dead, errors.New("x"), syscall.EIO, false},
		{live, iofs.ErrNotExist, syscall.ENOENT, false},
		{live, &os.PathError{Err: syscall.ENOENT}, syscall.ENOENT, false},
		{live, os.ErrPermission, syscall.EACCES, false},
		{live, syscall.ENOSYS, syscall.EIO, false},
		{live, syscall.ENOSPC, syscall.EIO, false},
		{live, os.ErrClosed, syscall.EIO, false},
	} {
		if got, corrupt := toErrno(c.ctx, rules, c.err); got != c.want || corrupt != c.corrupt {
			t.Errorf("%v: %v, %v", c.err, got, corrupt)
		}
	}
}

func TestWaiter(t *testing.T) {
	defer goleak.VerifyNone(t)
	defer testkit.Settle()
	ended := func(w *waiter, within time.Duration) bool {
		select {
		case <-w.Done():
			return w.Err() == context.Canceled
		case <-time.After(within):
			return false
		}
	}
	self := os.Getpid()

	w := &waiter{thread: self, grace: time.Hour}
	if w.Err() != nil || ended(w, 10*time.Millisecond) {
		t.Error("ends by itself")
	}
	w.finish()
	if !ended(w, time.Minute) {
		t.Error("outlives its request")
	}
	w = &waiter{}
	w.finish()
	if !ended(w, time.Minute) || w.stop != nil {
		t.Error("comes alive after its request")
	}

	interrupt := func(thread int, grace time.Duration) *waiter {
		c := make(chan struct{})
		close(c)
		w := &waiter{interrupted: c, thread: thread, grace: grace, room: new(room)}
		t.Cleanup(w.finish)
		return w
	}
	for _, c := range []struct {
		name string
		w    *waiter
		ends bool
	}{
		{"caller lives", interrupt(self, time.Hour), false},
		{"no grace", interrupt(self, 0), true},
		{"grace over", interrupt(self, 20*time.Millisecond), true},
		{"caller unknown", interrupt(0, time.Hour), true},
		{"caller gone", interrupt(1<<30, time.Hour), true},
	} {
		if got := ended(c.w, 100*time.Millisecond+map[bool]time.Duration{true: time.Minute}[c.ends]); got != c.ends {
			t.Errorf("%s: ended %v", c.name, got)
		}
		c.w.finish()
	}
}

func TestDying(t *testing.T) {
	self := os.Getpid()
	if got, exists := processOf(syscall.Gettid()); got != self || !exists {
		t.Errorf("our thread is of process %d, not %d", got, self)
	}
	if _, exists := processOf(1 << 30); exists {
		t.Error("a thread that cannot be exists")
	}
	if _, exists := processOf(0); !exists {
		t.Error("the kernel does not exist")
	}
	if dying(self) {
		t.Error("we are dying")
	}
	cmd := fusetest.Child(t.Context(), "none")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a zombie is not alive", time.Minute, func() bool { return dying(cmd.Process.Pid) })
	cmd.Wait()
	if !dying(cmd.Process.Pid) {
		t.Error("a process that is gone is alive")
	}

	line := func(flags, signal uint64) []byte {
		return fmt.Appendf(nil, "7 (a) b (c) S 1 7 7 0 -1 %d 11 12 13 14 15 16 17 18 20 0 1 0 22 23 24 25 26 27 28 29 30 %d 0 0 0 0", flags, signal)
	}
	for _, c := range []struct {
		stat []byte
		want bool
	}{
		{line(0x400000, 0), false}, {line(0, 1<<8), true}, {line(0, 1<<14), false}, {line(0x400004, 0), true},
		{line(0x200, 0), true}, {line(0x400, 0), true}, {nil, false}, {[]byte("7 (x) S 1"), false},
	} {
		if got := threadDying(c.stat); got != c.want {
			t.Errorf("%s: %v", c.stat, got)
		}
	}
}

func TestChanges(t *testing.T) {
	v := func(feed byte, latest string, releases map[string]uint64) view {
		return view{feed: [32]byte{feed}, latest: latest, releases: releases}
	}
	type m = map[string]uint64
	for _, c := range []struct {
		a, b view
		want []string
	}{
		{v(1, "a", m{"a": 1}), v(1, "a", m{"a": 1}), nil},
		{v(1, "a", m{"a": 1}), v(2, "a", m{"a": 1}), []string{"feed.xml"}},
		{v(1, "a", m{"a": 1, "b": 1}), v(1, "b", m{"b": 1}), []string{"a", "latest"}},
		{v(1, "a", m{"a": 1}), v(1, "a", m{"a": 2, "c": 1}), []string{"a", "c", "latest"}},
		{v(1, "", m{}), v(1, "a", m{"a": 1}), []string{"a", "latest"}},
	} {
		got := changes(c.a, c.b)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%v -> %v: %q, want %q", c.a, c.b, got, c.want)
		}
	}
}

func TestIdentity(t *testing.T) {
	for _, n := range []uint64{0, 1, 2, ^uint64(0), 1 << 63} {
		if got := usableIno(n); got <= 1 || got == ^uint64(0) {
			t.Errorf("inode %d becomes %d", n, got)
		}
	}
	seen := map[any]bool{}
	for _, id := range []any{
		identity(1, "a", 0, "b"), identity(2, "a", 0, "b"), identity(1, "a", 1, "b"),
		identity(1, "ab", 0, ""), identity(1, "", 0, "ab"), identity(1, "a", 0, "bc"),
	} {
		if seen[id] {
			t.Errorf("%v twice", id)
		}
		seen[id] = true
	}
	for name, want := range map[string]bool{"": false, ".": false, "..": false, "a/b": false, "a\x00": false, "a": true, "...": true, "\xff": true} {
		if usableName(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

// scriptedNode is a file of a tree that is not mounted, and its handle in memory.
func scriptedNode(t testing.TB, f *scriptedFile) (*fileNode, *handle) {
	tree := newTree(t, newRelease("one", f))
	r, ok := tree.Snapshot().Release("one")
	if !ok {
		t.Fatal("there is no release")
	}
	p, err := r.Package(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file, err := p.Lookup(t.Context(), f.name)
	if err != nil {
		t.Fatal(err)
	}
	v := newVFS(tree.Catalog, Options{}.withDefaults())
	n := newFileNode(newReleaseNode(v, r, time.Time{}), file)
	return n, &handle{node: n, src: image.Memory(f.data)}
}

// A file of a release that is the same in a later process must be the same node.
func TestIdentityIsStable(t *testing.T) {
	release := newRelease("one", newFile("x", 5000))
	tree := newTree(t, release)
	var ids []any
	for range 2 {
		r, _ := tree.Snapshot().Release("one")
		p, err := r.Package(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		file, err := p.Lookup(t.Context(), "x")
		if err != nil {
			t.Fatal(err)
		}
		v := newVFS(tree.Catalog, Options{}.withDefaults())
		ids = append(ids, releaseIdentity(r), v.fileIdentity(releaseID{"one", r.Generation()}, file))
		tree.set(t, newRelease("two"), release)
	}
	if ids[0] != ids[2] || ids[1] != ids[3] {
		t.Errorf("%+v", ids)
	}
}

func BenchmarkRead(b *testing.B) {
	_, h := scriptedNode(b, newFile("x", 1<<20))
	p := make([]byte, 128<<10)
	b.ReportAllocs()
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		r, errno := h.Read(context.Background(), p, 4096)
		if errno != 0 {
			b.Fatal(errno)
		}
		r.Done()
	}
}

// A read of what is here allocates nothing on its way from go-fuse and back.
func TestReadDoesNotAllocate(t *testing.T) {
	_, h := scriptedNode(t, newFile("x", 1<<20))
	p := make([]byte, 4096)
	read := func() {
		r, errno := h.Read(context.Background(), p, 4096)
		if errno != 0 || r.Size() != len(p) {
			t.Fatal(errno)
		}
		r.Done()
	}
	least := testing.AllocsPerRun(200, read)
	for range 9 { // the rest of the process allocates too, in some of the runs
		least = min(least, testing.AllocsPerRun(200, read))
	}
	if least >= 1 {
		t.Errorf("%v allocations", least)
	}
}

// TestStatusesAreBounded: handles of status.json share a content; those of the
// oldest are stale once all together are too much.
func TestStatusesAreBounded(t *testing.T) {
	var s statuses
	content := func(b byte) []byte { return bytes.Repeat([]byte{b}, maxStatuses/4) }
	read := func(h *statusHandle) (string, syscall.Errno) {
		r, errno := h.Read(t.Context(), make([]byte, 1), 0)
		if errno != 0 {
			return "", errno
		}
		p, _ := r.Bytes(make([]byte, 1))
		return string(p), 0
	}
	var handles []*statusHandle
	for _, b := range "abcde" {
		raw := content(byte(b))
		handles = append(handles, s.open(raw), s.open(raw))
	}
	if len(s.held) != 4 || s.bytes != maxStatuses {
		t.Errorf("%d contents of %d bytes", len(s.held), s.bytes)
	}
	for i, h := range handles {
		got, errno := read(h)
		if want := string("abcde"[i/2]); i < 2 && errno != syscall.ESTALE || i >= 2 && got != want {
			t.Errorf("handle %d: %q, %v", i, got, errno)
		}
	}
	for _, h := range handles {
		h.Release(t.Context())
	}
	if len(s.held) != 0 || s.bytes != 0 {
		t.Errorf("%d contents of %d bytes are left", len(s.held), s.bytes)
	}
	h := s.open(bytes.Repeat([]byte("x"), maxStatuses+1)) // one alone is never too much
	if got, errno := read(h); got != "x" {
		t.Errorf("%q, %v", got, errno)
	}
}
