package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/fs/internal/fusetest"
)

func TestNewSnapshot(t *testing.T) {
	old := newRelease("one", newFile("disk.img", 1<<16))
	kept := newRelease("two", newFile("disk.img", 1<<16))
	tree := newTree(t, old, kept)
	m := mountTree(t, tree, func(o *Options) { o.shortly = time.Hour }) // the notifier must tell
	exists := func(name string) bool { _, err := os.Lstat(m.path(name)); return err == nil }

	held, err := os.Open(m.path("one/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	heldFeed, err := os.Open(m.path("feed.xml"))
	if err != nil {
		t.Fatal(err)
	}
	defer heldFeed.Close()
	inodes := map[string]uint64{}
	for _, name := range []string{"one", "one/disk.img", "two", "two/disk.img"} {
		inodes[name] = stat(t, m.path(name)).Ino
	}
	os.Readlink(m.path("latest"))
	readFile(t, m.path("two/disk.img"))
	if exists("three") {
		t.Fatal("three exists")
	}

	// "one" is replaced, "three" is new and the latest, "two" is as it was.
	replaced := newRelease("one", newFile("disk.img", 1<<16))
	replaced.files[0].data[100] ^= 0xff
	first := tree.Snapshot()
	tree.set(t, newRelease("three"), replaced, kept)
	testkit.Eventually(t, "three appears", time.Minute, func() bool { return exists("three") })
	testkit.Eventually(t, "latest moves", time.Minute, func() bool { to, _ := os.Readlink(m.path("latest")); return to == "three" })
	testkit.Eventually(t, "feed.xml changes", time.Minute, func() bool { return bytes.Equal(readFile(t, m.path("feed.xml")), tree.Snapshot().FeedXML()) })
	testkit.Eventually(t, "one is replaced", time.Minute, func() bool {
		return bytes.Equal(readFile(t, m.path("one/disk.img")), replaced.files[0].data)
	})
	testkit.Eventually(t, "root has the feed's time", time.Minute, func() bool { return stat(t, m.dir).Mtim.Nano() == tree.Snapshot().FeedTime().UnixNano() })
	for _, name := range []string{"one", "one/disk.img", "two", "two/disk.img"} {
		if now := stat(t, m.path(name)).Ino; (now == inodes[name]) != strings.HasPrefix(name, "two") {
			t.Errorf("%s: inode %d before and %d after", name, inodes[name], now)
		}
	}
	got := make([]byte, 1<<16)
	if _, err := held.ReadAt(got, 0); err != nil || !bytes.Equal(got, old.files[0].data) {
		t.Errorf("the open file of the old generation changed, or %v", err)
	}
	if b, err := io.ReadAll(heldFeed); !bytes.Equal(b, first.FeedXML()) {
		t.Errorf("the open feed reads %q, %v", b, err)
	}
	if n := kept.files[0].reads.Load(); n == 0 {
		t.Error("nothing read")
	} else if readFile(t, m.path("two/disk.img")); kept.files[0].reads.Load() != n {
		t.Error("pages of an unchanged release were dropped")
	}

	// A release leaves the feed, and comes back.
	tree.set(t, kept)
	testkit.Eventually(t, "three goes", time.Minute, func() bool { return !exists("three") })
	if !exists("one") {
		t.Error("a release in use went")
	}
	back := newRelease("three", newFile("x", 1))
	tree.set(t, kept, back)
	testkit.Eventually(t, "three comes back", time.Minute, func() bool { return exists("three") })
	if got := names(t, m.path("three")); !slices.Equal(got, []string{"x"}) {
		t.Errorf("holds %q", got)
	}
	tree.set(t, newRelease("four"))
	testkit.Eventually(t, "latest moves on", time.Minute, func() bool { to, _ := os.Readlink(m.path("latest")); return to == "four" && !exists("two") })
}

func TestLeavesWhenUnused(t *testing.T) {
	for name, remember := range map[string]time.Duration{"asked again": 20 * time.Millisecond, "notified": time.Hour} {
		t.Run(name, func(t *testing.T) {
			rel := newRelease("one", newFile("disk.img", 1<<16), newFile("xvm.xml", 10))
			tree := newTree(t, rel)
			m := mountTree(t, tree, func(o *Options) { o.shortly = remember })
			a, err := os.Open(m.path("one/disk.img"))
			if err != nil {
				t.Fatal(err)
			}
			tree.set(t, newRelease("two"))
			if name == "asked again" {
				time.Sleep(100 * time.Millisecond) // so that no cached entry answers
			}

			if got := names(t, m.dir); !slices.Equal(got, []string{"feed.xml", "latest", "one", "two"}) {
				t.Errorf("root holds %q", got)
			}
			b, err := os.Open(m.path("one/xvm.xml"))
			if err != nil {
				t.Fatalf("another file of a release in use: %v", err)
			}
			a.Close()
			readFile(t, m.path("one/disk.img"))
			b.Close()
			testkit.Eventually(t, "one goes with its last user", time.Minute, func() bool {
				_, err := os.Lstat(m.path("one"))
				return errors.Is(err, os.ErrNotExist)
			})
			if got := names(t, m.dir); !slices.Equal(got, []string{"feed.xml", "latest", "two"}) {
				t.Errorf("root holds %q", got)
			}
		})
	}
}

// Two files whose inode numbers collide are still two files.
func TestInodeCollision(t *testing.T) {
	a, b := newFile("a", 5000), newFile("b", 5000)
	a.inode, b.inode = 1<<20, 1<<20
	b.data[0] ^= 0xff
	m := mountTree(t, newTree(t, newRelease("one", a, b)))
	fa, err := os.Open(m.path("one/a"))
	if err != nil {
		t.Fatal(err)
	}
	defer fa.Close()
	if !bytes.Equal(readFile(t, m.path("one/a")), a.data) || !bytes.Equal(readFile(t, m.path("one/b")), b.data) {
		t.Error("the files are mixed up")
	}
}

func TestOrdinaryUser(t *testing.T) {
	fusetest.Root(t)
	fusetest.Require(t)
	fusetest.Tool(t, "fusermount3")
	dir := t.TempDir()
	for p := dir; p != os.TempDir() && len(p) > 1; p = p[:strings.LastIndexByte(p, '/')] {
		os.Chmod(p, 0o755)
	}
	cache := t.TempDir()
	for _, d := range []string{dir, cache} {
		if err := os.Chown(d, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := fusetest.Child(ctx, "namespace", dir, filepath.Join(t.TempDir(), "fuse"), cache)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	fusetest.Run(t, cmd)
}
