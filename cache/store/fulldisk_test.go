package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mountTmpfs(t *testing.T, size int) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", fmt.Sprint("size=", size), "vmcastfs-test", dir).CombinedOutput(); err != nil {
		t.Skipf("cannot mount: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	return dir
}

// L3: a full disk refuses blocks with ErrFull and hurts nothing.
func TestL3DiskFull(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, 1<<20)
	s, err := Open(Options{Dir: dir, SyncEvery: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	idle := openFile(t, s, "idle", 1<<20, bs)
	write(t, idle, 0, 1, 2, 3, 4, 5, 6, 7)
	idle.Close()
	f := openFile(t, s, "f", 4<<20, bs)
	f.Pin()
	stored := 0
	for b := range f.Blocks() {
		switch err := f.WriteBlock(b, content(b, bs)); {
		case err == nil:
			stored++
			wantBlock(t, f, b)
		case !errors.Is(err, ErrFull):
			t.Fatal(err)
		default:
			wantAbsent(t, f, b)
		}
	}
	if stored < 200 || stored == int(f.Blocks()) {
		t.Errorf("%d blocks stored", stored)
	}
	st := s.Stats()
	if st.EvictedFiles != 1 || st.Full == 0 {
		t.Errorf("%+v", st)
	}
	if _, err := s.File(key("another"), bs, bs); err != nil && !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if err := s.PutDoc("feed", "x", make([]byte, 100<<10)); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	f.flush() // may fail
	s.Close()
	if s, err = Open(Options{Dir: dir}); err != nil {
		t.Fatal(err)
	}
	f = openFile(t, s, "f", 4<<20, bs)
	presentBlocks(t, f)
	if n := s.Stats().Damaged; n != 0 {
		t.Errorf("%d damaged", n)
	}
}

// The floor of free space holds.
func TestL3Floor(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, 4<<20)
	s := openStore(t, Options{Dir: dir, MinFree: 2 << 20})
	f := openFile(t, s, "f", 8<<20, bs)
	var last error
	for b := range f.Blocks() {
		last = f.WriteBlock(b, content(b, bs))
	}
	if free, _ := s.files.free(); !errors.Is(last, ErrFull) || free < 2<<20 || free > 3<<20 {
		t.Errorf("%d bytes free, %v", free, last)
	}
	s.Close()
}

// TestReadOnlyDisk: a cache on a disk that takes no writes serves what it holds, and says so.
func TestReadOnlyDisk(t *testing.T) {
	t.Parallel()
	dir := mountTmpfs(t, 16<<20)
	s, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	whole, part := openFile(t, s, "whole", 3*bs+5, bs), openFile(t, s, "part", 8*bs, bs)
	write(t, whole, 0, 1, 2, 3)
	write(t, part, 0, 5)
	if err := whole.SetState(Verified, "all match"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutDoc("index", "name", []byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	remount := func(how string) {
		t.Helper()
		if out, err := exec.Command("mount", "-o", "remount,"+how, dir).CombinedOutput(); err != nil {
			t.Fatalf("%s", out)
		}
	}
	remount("ro")
	var log bytes.Buffer
	o := Options{Dir: dir, Limit: 1 << 20, MinFree: 1 << 20, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	for range 2 { // two processes
		defer openStore(t, o).Close()
	}
	s = openStore(t, o)
	if !s.Stats().ReadOnly || !strings.Contains(log.String(), "read-only") {
		t.Errorf("it does not say so: %s", &log)
	}
	whole, part = openFile(t, s, "whole", 3*bs+5, bs), openFile(t, s, "part", 8*bs, bs)
	whole.Pin()
	defer whole.Unpin()
	for b := range int64(4) {
		wantBlock(t, whole, b)
	}
	if whole.State() != Verified || whole.Note() != "all match" || whole.Data() == nil {
		t.Errorf("the whole file is %v, %q", whole.State(), whole.Note())
	}
	wantBlock(t, part, 5)
	wantAbsent(t, part, 1)
	if err := part.WriteBlock(1, content(1, bs)); !errors.Is(err, ErrFailing) {
		t.Error(err)
	}
	if err := part.WriteZeros(2, 2); err != nil || !part.Has(3) {
		t.Error(err)
	}
	if err := part.SetState(Verified, ""); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	fresh := openFile(t, s, "fresh", 4*bs, bs)
	wantAbsent(t, fresh, 0)
	if err := fresh.WriteBlock(0, content(0, bs)); !errors.Is(err, ErrFailing) {
		t.Error(err)
	}
	if release, ok := fresh.Claim(0); !ok {
		t.Error("nobody else is there")
	} else {
		release()
	}
	if d, err := s.GetDoc("index", "name"); err != nil || string(d) != "text" {
		t.Error(d, err)
	}
	if err := s.PutDoc("index", "name", nil); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if l, err := s.List(); err != nil || len(l) != 2 || l[0].Err != nil || l[1].Err != nil {
		t.Error(l, err)
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Remove(key("part")); err == nil {
		t.Error("removed a file of a read-only disk")
	}
	if _, err := Open(Options{Dir: filepath.Join(dir, "none")}); err == nil {
		t.Error("opened a cache that is not there and cannot be made")
	}
}
