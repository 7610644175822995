package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/xvm"
)

// bootLike reads a few places of the disk, far from each other and backwards,
// and returns them.
func (w *world) bootLike() (reads []xvm.ProfileRead) {
	w.t.Helper()
	f, err := os.Open(w.path("latest", appliance.DiskName))
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	const block, step = 64 << 10, 20 * 64 << 10
	p := make([]byte, block)
	for off := int64(len(w.app.Disk)) - 2*block; off >= 0; off -= step {
		if _, err := f.ReadAt(p, off); err != nil {
			w.t.Fatal(err)
		}
		if string(p) != string(w.app.Disk[off:off+block]) {
			w.t.Fatalf("wrong bytes at %d", off)
		}
		reads = append(reads, xvm.ProfileRead{Image: appliance.DiskName, Off: off, Len: block})
	}
	return reads
}

func TestBootProfile(t *testing.T) {
	w := newWorld(t, appliance.Options{DiskSize: 32 << 20})
	w.origin.SetLatency(10 * time.Millisecond) // beside an origin that is near less is fetched without one
	w.mount("complete=off")
	reads := w.bootLike()
	without := w.packageStats().BytesSent
	text, err := w.run("profile", "export", w.path("latest", appliance.DiskName))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if of, err := w.run("profile", "export", w.path("latest")); err != nil || of != text {
		t.Errorf("export of the release: %v\n%s", err, of)
	}
	got, err := xvm.ParseProfile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	// The kernel reads a little more than it is asked for, behind it.
	if len(got) != len(reads) {
		t.Errorf("%d reads recorded of %d", len(got), len(reads))
	}
	for i := range min(len(got), len(reads)) {
		if got[i].Off != reads[i].Off {
			t.Errorf("read %d recorded at %d, was at %d", i, got[i].Off, reads[i].Off)
		}
	}
	w.umount()

	// What was recorded is kept, and used once the blocks are gone. (The last
	// read of a follower has nothing behind it, so no block is fetched that is
	// not in the profile.)
	profile := filepath.Join(t.TempDir(), "boot.profile")
	if err := os.WriteFile(profile, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	w.cache = t.TempDir()
	w.origin.ResetStats()
	w.mount("complete=off", "profile="+profile)
	w.bootLike()
	with := w.packageStats().BytesSent
	if least := int64(len(reads)) * 64 << 10; with < least || with > without/2 {
		t.Errorf("%d bytes with the profile, %d without", with, without)
	}
	w.umount()
}

func TestNoBootProfile(t *testing.T) {
	w := newWorld(t, appliance.Options{DiskSize: 32 << 20})
	w.mount("complete=off", "profile=off")
	w.bootLike()
	out, err := w.run("profile", "export", w.path("latest"))
	if exitCode(err) != 1 || !strings.Contains(out, "no boot has been recorded") {
		t.Errorf("export with profile=off: %v: %s", err, out)
	}
	w.umount()

	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = w.run("mount", "-o", w.options("profile="+bad), w.feed, w.dir)
	if err == nil || !strings.Contains(out, bad) {
		t.Errorf("mount with a bad profile: %v: %s", err, out)
	}
	if out, err := w.run("profile", "export", t.TempDir()+"/nothing"); exitCode(err) != 1 {
		t.Errorf("export of nothing: %v: %s", err, out)
	}
}
