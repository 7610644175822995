package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"vmcastfs/fs/catalog"
)

// TestNoRoomToInflate: a full disk is told as that, with what to do, and not as
// a fault of the package.
func TestNoRoomToInflate(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	_, err = io.Copy(&roomyFile{File: full}, bytes.NewReader(make([]byte, 100)))
	if !errors.Is(err, errTemp) || !strings.Contains(err.Error(), "set TMPDIR to") {
		t.Error(err)
	}

	p := filter(t, pack(t, member{"root.img", diskOf(2, 1)}), "gzip", "-n")
	path := t.TempDir() + "/one.ova.gz"
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	a := &openedArchive{Archive: fileArchive{f}, size: int64(len(p))}
	e := &env{stdout: io.Discard, stderr: io.Discard}
	t.Setenv("TMPDIR", t.TempDir())
	c, err := e.enclosedIn(t.Context(), a, path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 { // while it is in use
		t.Error("the temporary file has a name:", left, err)
	}
	t.Setenv("TMPDIR", "/nonexistent")
	_, err = e.enclosedIn(t.Context(), a, path)
	if !errors.Is(err, errTemp) || errors.Is(err, catalog.ErrNotPackage) || !strings.Contains(err.Error(), "set TMPDIR to") {
		t.Error(err)
	}
}
