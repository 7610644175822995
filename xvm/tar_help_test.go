package xvm

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"testing"
)

// tarBytes is an archive in memory that counts what is asked of it.
type tarBytes struct {
	r        io.ReaderAt
	requests int
	bytes    int64
}

func (b *tarBytes) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	b.requests++
	b.bytes += int64(len(p))
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return b.r.ReadAt(p, off)
}

func tarWalkBytes(t testing.TB, archive []byte, lim Limits) (*Index, error) {
	t.Helper()
	x, err := Walk(t.Context(), &tarBytes{r: bytes.NewReader(archive)}, int64(len(archive)), lim)
	if err == nil {
		if err := x.Validate(); err != nil {
			t.Fatalf("Walk made an index that Validate refuses: %v", err)
		}
	}
	return x, err
}

// tarContent reads a member as the index says.
func tarContent(t testing.TB, r io.ReaderAt, m Member) []byte {
	t.Helper()
	p := make([]byte, m.Size)
	segments := m.Segments
	if segments == nil {
		segments = []Segment{{Archive: m.Offset, Len: m.Stored}}
	}
	for _, s := range segments {
		if n, err := r.ReadAt(p[s.Logical:s.Logical+s.Len], s.Archive); int64(n) != s.Len {
			t.Fatalf("member %q: read segment %+v: %v", m.Name, s, err)
		}
	}
	return p
}

// tarMaker writes archives by hand, wrong ones too.
type tarMaker struct{ bytes.Buffer }

// tarField is a change to a header after its usual fields are set.
type tarField func(b []byte)

func tarPut(at int, s string) tarField { return func(b []byte) { copy(b[at:], s) } }
func tarUstarMagic(b []byte)           { copy(b[257:], "ustar\x0000") }
func tarGNUMagic(b []byte)             { copy(b[257:], "ustar  \x00") }

func (m *tarMaker) header(flag byte, name string, size int64, fields ...tarField) *tarMaker {
	b := make([]byte, 512)
	copy(b, name)
	copy(b[100:], "0000644\x000000000\x000000000\x00")
	copy(b[124:], tarOctal(size))
	copy(b[136:], tarOctal(1700000000))
	b[156] = flag
	tarUstarMagic(b)
	for _, f := range fields {
		f(b)
	}
	copy(b[148:], "        ")
	var sum int64
	for _, c := range b {
		sum += int64(c)
	}
	copy(b[148:], tarOctal(sum)[5:])
	m.Write(b)
	return m
}

func tarOctal(n int64) string {
	b := []byte("00000000000\x00")
	for i := 10; i >= 0; i-- {
		b[i], n = '0'+byte(n&7), n>>3
	}
	return string(b)
}

func (m *tarMaker) body(s string) *tarMaker {
	m.WriteString(s)
	m.Write(make([]byte, -len(s)&511))
	return m
}

func (m *tarMaker) file(name, content string, fields ...tarField) *tarMaker {
	return m.header('0', name, int64(len(content)), fields...).body(content)
}

// pax writes an extended header of records key, value, key, value, ...
func (m *tarMaker) pax(flag byte, records ...string) *tarMaker {
	var body string
	for i := 0; i < len(records); i += 2 {
		body += tarRecord(records[i], records[i+1])
	}
	return m.header(flag, "x", int64(len(body))).body(body)
}

func tarRecord(key, value string) string {
	rest := " " + key + "=" + value + "\n"
	n := len(rest)
	for n != len(rest)+len(tarItoa(n)) {
		n = len(rest) + len(tarItoa(n))
	}
	return tarItoa(n) + rest
}

func tarItoa(n int) string {
	var s string
	for ; n > 0; n /= 10 {
		s = string(rune('0'+n%10)) + s
	}
	return s
}

func (m *tarMaker) end() []byte {
	m.Write(make([]byte, 1024))
	return m.Bytes()
}

// tarNeed skips the test if a program is missing, except in CI.
func tarNeed(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing", program)
		}
		t.Skipf("%s is missing", program)
	}
}

// tarGo writes regular files with Go's writer.
func tarGo(t testing.TB, format tar.Format, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o600, Format: format}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[i+1])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
