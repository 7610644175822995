package seekable

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

var background = context.Background()

func newReader(t testing.TB, f Format, data []byte, o Options) *Reader {
	t.Helper()
	r, err := Open(f, memory(data), int64(len(data)), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// readFrom reads n bytes from off, or to the end for n < 0.
func readFrom(r *Reader, off, n int64) ([]byte, error) {
	s, err := r.Stream(background, off)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if n < 0 {
		return io.ReadAll(s)
	}
	b := make([]byte, n)
	k, err := io.ReadFull(s, b)
	return b[:k], err
}

// command pipes b through a program.
func command(t testing.TB, b []byte, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		t.Skipf("no %s: %v", args[0], err)
	}
	c := exec.Command(args[0], args[1:]...)
	c.Stdin = bytes.NewReader(b)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out
}

func gzipped(t testing.TB, b []byte, level int) []byte {
	var out bytes.Buffer
	w, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// plains are the contents that every format is tested with.
func plains() map[string][]byte {
	noise := make([]byte, 200_000/scale)
	rand.NewChaCha8([32]byte{9}).Read(noise)
	return map[string][]byte{
		"empty": {}, "one": {'x'}, "text": bytes.Repeat([]byte("all work and no play makes jack a dull boy\n"), 6000/scale),
		"noise": noise, "zeros": make([]byte, 1<<20/scale), "disk": disk(700_333/scale, 4),
	}
}

// sweep reads the whole, then every class of offsets, then the same in a fresh Reader with restored points.
func sweep(t *testing.T, f Format, data, plain []byte) {
	t.Helper()
	o := Options{Every: 128 << 10}
	r := newReader(t, f, data, o)
	got, err := readFrom(r, 0, -1)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("whole: %v, %d bytes of %d", err, len(got), len(plain))
	}
	if n, known, err := r.Size(background); n != int64(len(plain)) || !known || err != nil {
		t.Fatalf("size behind the end: %d %v %v", n, known, err)
	}
	points, changed := r.Points()
	if _, again := r.Points(); again || changed == false {
		t.Fatalf("points changed: %v, then %v", changed, again)
	}
	fresh := newReader(t, f, data, o)
	if err := fresh.Restore(points); err != nil {
		t.Fatal(err)
	}
	if n, known, _ := fresh.Size(background); n != int64(len(plain)) || !known {
		t.Fatalf("restored size %d %v", n, known)
	}
	cold := newReader(t, f, data, o)
	offs := []int64{0, 1, 4095, 4096, 65535, 65536, 256<<10 - 1, 256 << 10, 256<<10 + 1, int64(len(plain)) - 1, int64(len(plain)), int64(len(plain)) + 1}
	for i, p := range r.x.points {
		if i%(1+len(r.x.points)/4) == 0 {
			offs = append(offs, p.out-1, p.out, p.out+1)
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 8 {
		offs = append(offs, rng.Int64N(int64(len(plain))+1))
	}
	for i, off := range offs {
		if off < 0 {
			continue
		}
		readers := map[string]*Reader{"first": r, "restored": fresh}
		if i%4 == 1 {
			readers["cold"] = cold
		}
		for name, r := range readers {
			n := int64(1 + i%3*30000)
			want := plain[min(off, int64(len(plain))):min(off+n, int64(len(plain)))]
			got, err := readFrom(r, off, n)
			if !bytes.Equal(got, want) || (err != nil) != (int64(len(want)) < n) || err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
				t.Fatalf("%s: %d bytes at %d: got %d, %v", name, n, off, len(got), err)
			}
		}
	}
	for _, r := range []*Reader{r, fresh} {
		for _, off := range offs {
			if s := r.Start(off); off >= 0 && s > off || off > 0 && off-s > 2<<20 && f == Gzip {
				t.Fatalf("start of %d is %d", off, s)
			}
		}
	}
}

func TestGzip(t *testing.T) {
	t.Parallel()
	for name, plain := range plains() {
		for _, level := range []int{0, 1, 6, 9, gzip.HuffmanOnly} {
			if name == "disk" {
				plain = disk(2<<20/scale+5, 4)
			}
			t.Run(fmt.Sprintf("%s/%d", name, level), func(t *testing.T) {
				sweep(t, Gzip, gzipped(t, plain, level), plain)
			})
		}
		t.Run(name+"/tool", func(t *testing.T) { sweep(t, Gzip, command(t, plain, "gzip", "-6"), plain) })
	}
}

// TestGzipMembers: many members of every size, empty ones and optional header fields among them.
func TestGzipMembers(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 5))
	var plain []byte
	var data bytes.Buffer
	for i := range 60 {
		b := disk(rng.IntN(200_000/scale), uint64(i))
		if i%7 == 3 {
			b = nil
		}
		plain = append(plain, b...)
		w := gzip.NewWriter(&data)
		if i%2 == 1 {
			w.Name, w.Comment, w.Extra = "disk.img", "a comment", make([]byte, 300)
		}
		w.Write(b)
		w.Close()
	}
	sweep(t, Gzip, data.Bytes(), plain)
	sweep(t, Gzip, append(data.Bytes(), make([]byte, 70000)...), plain)
}

// TestGzipHeaderChecksum: FHCRC is checked.
func TestGzipHeaderChecksum(t *testing.T) {
	t.Parallel()
	b := gzipped(t, []byte("hello"), 6)
	head := bytes.Clone(b[:10])
	head[3] = 2
	sum := crcOf(head)
	good := append(append(bytes.Clone(head), byte(sum), byte(sum>>8)), b[10:]...)
	if got, err := readFrom(newReader(t, Gzip, good, Options{}), 0, -1); string(got) != "hello" || err != nil {
		t.Fatal(string(got), err)
	}
	good[10] ^= 1
	if _, err := readFrom(newReader(t, Gzip, good, Options{}), 0, -1); !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

// TestC2 is trailing garbage, several members, wrong ISIZE and CRC.
func TestC2(t *testing.T) {
	t.Parallel()
	plain := disk(300_000, 8)
	one := gzipped(t, plain, 6)
	with := func(b []byte, more ...byte) []byte { return append(bytes.Clone(b), more...) }
	flip := func(at int) []byte {
		b := bytes.Clone(one)
		b[(at+len(b))%len(b)] ^= 0x10
		return b
	}
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"sound":                 {one, nil},
		"zeros":                 {with(one, make([]byte, 3<<20)...), nil},
		"few zeros":             {with(one, 0), nil},
		"garbage":               {with(one, []byte("signed by nobody")...), nil},
		"zeros, then garbage":   {with(one, append(make([]byte, 100_000), "junk"...)...), nil},
		"much garbage":          {with(one, bytes.Repeat([]byte{7}, 100_000)...), ErrCorrupt},
		"damaged second header": {with(one, append([]byte{0, 0x8b, 8, 0}, one...)...), ErrCorrupt},
		"cut second header":     {with(one, 0x1f, 0x8b, 8), io.ErrUnexpectedEOF},
		"first byte of header":  {with(one, 0x1f), io.ErrUnexpectedEOF},
		"checksum":              {flip(-8), ErrCorrupt},
		"size":                  {flip(-4), ErrCorrupt},
		"cut trailer":           {one[:len(one)-3], io.ErrUnexpectedEOF},
		"empty file":            {nil, io.ErrUnexpectedEOF},
		"cut header":            {one[:5], io.ErrUnexpectedEOF},
		"no gzip":               {[]byte("#!/bin/sh\necho"), ErrCorrupt},
		"reserved flag":         {with([]byte{0x1f, 0x8b, 8, 0x20}, one[4:]...), ErrCorrupt},
	} {
		r := newReader(t, Gzip, c.data, Options{})
		got, err := readFrom(r, 0, -1)
		if !errors.Is(err, c.want) || c.want == nil && err != nil || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %v after %d bytes", name, err, len(got))
		}
		if _, known, _ := r.Size(background); known != (c.want == nil) {
			t.Errorf("%s: size known: %v", name, known)
		}
		var e *Error
		if c.want != nil && (!errors.As(err, &e) || e.Plain != int64(len(got)) || e.Stored < 0 || e.Stored > int64(len(c.data))) {
			t.Errorf("%s: error without its place: %#v after %d bytes", name, err, len(got))
		}
	}
}

// TestC1 is bombs: what is decoded, kept and allocated is bounded.
func TestC1(t *testing.T) {
	t.Parallel()
	bomb := gzipped(t, make([]byte, 20<<20), 9)
	r := newReader(t, Gzip, bomb, Options{MaxSize: 4 << 20})
	got, err := readFrom(r, 0, -1)
	if !errors.Is(err, ErrLimit) || len(got) > 4<<20+pieceBuffer {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	r = newReader(t, Gzip, bomb, Options{MaxRatio: 100})
	if r.limit != ratioGrace {
		t.Errorf("limit %d", r.limit)
	}
	if r, _ := Open(Gzip, memory(nil), 1<<30, Options{MaxRatio: 100}); r.limit != 100<<30 {
		t.Errorf("limit %d", r.limit)
	}
	r = newReader(t, Gzip, gzipped(t, disk(8<<20/scale, 3), 1), Options{Every: 64 << 10, PointBytes: 100_000})
	if _, err := readFrom(r, 0, -1); err != nil {
		t.Fatal(err)
	}
	data, _ := r.Points()
	if r.x.bytes > 100_000 || len(data) > 100_000 || len(r.x.points) < 3 {
		t.Errorf("%d points take %d bytes, saved %d", len(r.x.points), r.x.bytes, len(data))
	}
	if _, err := Open("lz4", memory(nil), 1, Options{}); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
	if _, err := Open(Gzip, memory(nil), -1, Options{}); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}

// TestContext: the end of a stream's context ends the wait, not the decoder.
func TestContext(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20, 6)
	src := &gate{memory: gzipped(t, plain, 6), open: make(chan struct{})}
	r, err := Open(Gzip, src, int64(len(src.memory)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	ctx, cancel := context.WithCancel(context.WithValue(background, key{}, "urgent"))
	s, err := r.Stream(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for src.calls.Load() == 0 {
			runtime.Gosched()
		}
		cancel()
	}()
	if _, err := s.Read(make([]byte, 10)); err != context.Canceled {
		t.Fatal(err)
	}
	s.Close()
	if _, err := s.Read(make([]byte, 10)); err != ErrClosed {
		t.Fatal(err)
	}
	close(src.open)
	got, err := readFrom(r, 0, 1000)
	if err != nil || !bytes.Equal(got, plain[:1000]) {
		t.Fatal(err)
	}
	if src.calls.Load() == 0 || src.value.Load() != "urgent" {
		t.Errorf("the source saw %v", src.value.Load())
	}
	// Close ends streams under way.
	s, err = r.Stream(background, 900_000)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	if _, err := io.ReadAll(s); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	s.Close()
	if _, err := r.Stream(background, 0); err != ErrClosed {
		t.Error(err)
	}
}

// TestSourceError: the source's own error comes through with a place, and the next stream begins again.
func TestSourceError(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20, 6)
	src := &flaky{memory: gzipped(t, plain, 6), fail: 3}
	r, err := Open(Gzip, src, int64(len(src.memory)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := readFrom(r, 0, -1)
	var e *Error
	if !errors.Is(err, errFlaky) || !errors.As(err, &e) || !bytes.HasPrefix(plain, got) || len(got) == 0 {
		t.Fatalf("%v after %d", err, len(got))
	}
	got, err = readFrom(r, 0, -1)
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatal(err)
	}
	// A source that is shorter than it should be.
	r, _ = Open(Gzip, src.memory[:len(src.memory)/2], int64(len(src.memory)), Options{})
	defer r.Close()
	if _, err := readFrom(r, 0, -1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

// TestConcurrent: many streams at once, all true.
func TestConcurrent(t *testing.T) {
	t.Parallel()
	plain := disk(4<<20/scale, 6)
	r := newReader(t, Gzip, gzipped(t, plain, 6), Options{Every: 128 << 10})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 2))
			for range 15 {
				off := rng.Int64N(int64(len(plain)))
				n := min(1+rng.Int64N(300_000), int64(len(plain))-off)
				got, err := readFrom(r, off, n)
				if err != nil || !bytes.Equal(got, plain[off:off+n]) {
					t.Errorf("%d at %d: %v", n, off, err)
				}
				r.Points()
				r.Start(off)
			}
		})
	}
	wg.Wait()
}
