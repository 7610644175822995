package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"vmcastfs/xvm"
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

	p := gzippedTar(t, "root.img", make([]byte, 128<<10))
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
	if !errors.Is(err, errTemp) || errors.Is(err, xvm.ErrNotPackage) || !strings.Contains(err.Error(), "set TMPDIR to") {
		t.Error(err)
	}
}

// gzippedTar is an archive of one member, compressed as a whole.
func gzippedTar(t *testing.T, name string, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
