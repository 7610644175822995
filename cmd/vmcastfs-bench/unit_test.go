package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/boottrace"
	"vmcastfs/xvm"
)

func TestTraceAsProfile(t *testing.T) {
	reads, err := boottrace.Reads()
	if err != nil {
		t.Fatal(err)
	}
	profile, err := xvm.ParseProfile((&bench{trace: reads}).profileText())
	if err != nil || len(profile) != len(reads) {
		t.Errorf("%d reads, %v", len(profile), err)
	}
}

// The sparse archives are archives.
func TestSparseFile(t *testing.T) {
	var s sparseFile
	for _, size := range []int64{0, 1, 512, 70_000} {
		s.header(header("member", size))
	}
	s.size += 1024
	r := tar.NewReader(io.NewSectionReader(&s, 0, s.size))
	for _, size := range []int64{0, 1, 512, 70_000} {
		h, err := r.Next()
		if err != nil || h.Size != size {
			t.Fatalf("%+v, %v", h, err)
		}
		if p, err := io.ReadAll(r); err != nil || len(bytes.Trim(p, "\x00")) > 0 {
			t.Fatal("content is not zeros", err)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
	whole := make([]byte, s.size)
	if n, err := s.ReadAt(whole, 0); int64(n) != s.size || err != nil {
		t.Fatal(n, err)
	}
	for off := int64(0); off < 4000; off += 123 { // any cut gives the same
		p := make([]byte, 700)
		if _, err := s.ReadAt(p, off); err != nil || !bytes.Equal(p, whole[off:off+700]) {
			t.Fatal(off, err)
		}
	}
}

func TestSummary(t *testing.T) {
	run := func(a, b float64) []result {
		return []result{
			{Test: "t", Subject: "a", Value: a, Unit: "s"},
			{Test: "t", Subject: "b", Value: b, Unit: "s", Against: "a", Target: &target{MaxRatio: 1.5, Most: 9}},
		}
	}
	rows := summary([][]result{run(1, 2), run(10, 10), run(2, 5)})
	if len(rows) != 2 || rows[0].Value != 2 || rows[1].Value != 5 || rows[1].Ratio != 2 || !rows[1].Missed {
		t.Errorf("%+v", rows)
	}
	var out strings.Builder
	if err := writeTable(&out, "machine", 3, rows); err != nil || !strings.Contains(out.String(), "2.00 × a") || !strings.Contains(out.String(), "MISSED") {
		t.Errorf("%v\n%s", err, out.String())
	}
	var missing *target
	if missing.missed(rows[1]) {
		t.Error("nothing is missed without a target")
	}
}

func TestList(t *testing.T) {
	var out strings.Builder
	if err := run(context.Background(), []string{"-list", "-peers"}, &out, io.Discard); err != nil || !strings.Contains(out.String(), "boot, WAN\n") {
		t.Error(err, out.String())
	}
	if err := run(context.Background(), []string{"-only", "no such test"}, io.Discard, io.Discard); err == nil {
		t.Error("nothing ran, and that is no error")
	}
}

func TestWithin(t *testing.T) {
	if took, err := within(time.Minute, func() (time.Duration, error) { return 7, nil })(); took != 7 || err != nil {
		t.Error(took, err)
	}
	hang := make(chan struct{})
	defer close(hang)
	if _, err := within(time.Millisecond, func() (time.Duration, error) { <-hang; return 0, nil })(); err == nil {
		t.Error("what hangs is waited for")
	}
}
