package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"
	"vmcastfs/cache/testkit"

	"golang.org/x/sys/unix"
)

// together runs a test for each of the cases at the same time: they wait most
// of theirs.
func together[C any](t *testing.T, cases map[string]C, test func(t *testing.T, c C)) {
	var wg sync.WaitGroup
	for name, c := range cases {
		wg.Go(func() { t.Run(name, func(t *testing.T) { test(t, c) }) })
	}
	wg.Wait()
}

// open opens a file of the mount until the end of the test, past the kernel's
// page cache: what the tests ask for shall reach the daemon.
func (w *world) open(name ...string) *os.File {
	w.t.Helper()
	return w.openWith(syscall.O_DIRECT, name...)
}

// openBuffered opens a file as cat does, which the kernel may read by passthrough.
func (w *world) openBuffered(name ...string) *os.File {
	w.t.Helper()
	return w.openWith(0, name...)
}

func (w *world) openWith(flags int, name ...string) *os.File {
	w.t.Helper()
	var f *os.File
	var err error
	// On a busy machine the origin may say nothing for longer than a short timeo= or stall= allows.
	testkit.Eventually(w.t, "open of "+w.path(name...), time.Minute, func() bool {
		f, err = os.OpenFile(w.path(name...), os.O_RDONLY|flags, 0)
		return !errors.Is(err, syscall.EIO)
	})
	must(w.t, err)
	w.t.Cleanup(func() { f.Close() })
	return f
}

// compareAt reads 4 KiB and compares them with what was published.
func compareAt(f *os.File, published []byte, off int64) error {
	p := aligned(4096)
	n, err := f.ReadAt(p, off)
	if err != nil && err != io.EOF {
		return err
	}
	if want := published[off:min(off+int64(len(p)), int64(len(published)))]; !bytes.Equal(p[:n], want) {
		return fmt.Errorf("%d bytes at %d are not what was published", n, off)
	}
	return nil
}

func (w *world) wantAt(f *os.File, published []byte, off int64) {
	w.t.Helper()
	if err := compareAt(f, published, off); err != nil {
		w.t.Errorf("read at %d: %v", off, err)
	}
}

// aligned is a buffer fit for O_DIRECT.
func aligned(n int) []byte {
	const page = 4096
	p := make([]byte, n+page)
	skip := (page - int(uintptr(unsafe.Pointer(&p[0]))%page)) % page
	return p[skip : skip+n]
}

// atOnceLimit is how long what needs no network may take.
const atOnceLimit = time.Second

// atOnce checks that looking at the mount, at a release that is indexed and at
// a file of it takes no time. What waits for the network would each time; a busy
// machine is quick some time.
func (w *world) atOnce(release, file string) {
	w.t.Helper()
	path := w.path(release, file)
	for what, do := range map[string]func() error{
		"ls":      func() error { _, err := os.ReadDir(w.dir); return err },
		"ls -l":   func() error { _, err := statAll(w.dir); return err },
		"ls REL":  func() error { _, err := statAll(w.path(release)); return err },
		"stat":    func() error { _, err := os.Stat(path); return err },
		"df":      func() error { return unix.Statfs(path, new(unix.Statfs_t)) },
		"getattr": func() error { _, err := unix.Getxattr(path, "user.vmcast.state", make([]byte, 100)); return err },
		"status":  func() error { _, err := os.ReadFile(w.path(".vmcastfs/status.json")); return err },
		"readlink": func() error {
			_, err := os.Readlink(w.path("latest"))
			return err
		},
		"open": func() error {
			f, err := os.Open(path)
			if err == nil {
				err = f.Close()
			}
			return err
		},
		"no such file": func() error {
			if _, err := os.Stat(w.path(release, "none")); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("%v", err)
			}
			return nil
		},
	} {
		testkit.Eventually(w.t, what+" takes no time", time.Minute, func() bool {
			began := time.Now()
			if err := do(); err != nil {
				w.t.Errorf("%s: %v", what, err)
			}
			return time.Since(began) < atOnceLimit
		})
	}
}

func statAll(dir string) (n int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if _, err := e.Info(); err != nil {
			return n, err
		}
		n++
	}
	return n, err
}

// slowListing checks that a release of which nothing is known yet is not
// waited for without end.
func (w *world) slowListing(release string) {
	w.t.Helper()
	began := w.now()
	// The mount may have indexed it by itself.
	if _, err := os.ReadDir(w.path(release)); err != nil && !errors.Is(err, syscall.EIO) {
		w.t.Errorf("ls of a release that nobody has looked at: %v", err)
	}
	if d := w.now() - began; d > time.Minute {
		w.t.Errorf("ls of a release that nobody has looked at took %s", d)
	}
}

func anyFailing[S ~[]E, E any](origins S) bool {
	return strings.Contains(fmt.Sprintf("%+v", origins), "Failing:true")
}
