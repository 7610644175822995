package seekable

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
)

// indexed is a Reader that has been through the file, and its saved points.
func indexed(t testing.TB, f Format, data []byte) (*Reader, []byte) {
	t.Helper()
	r := newReader(t, f, data, Options{Every: 64 << 10})
	if _, err := readFrom(r, 0, -1); err != nil {
		t.Fatal(err)
	}
	points, _ := r.Points()
	return r, points
}

func sign(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func TestRestoreRefuses(t *testing.T) {
	t.Parallel()
	data := gzipped(t, disk(1<<20, 1), 6)
	_, points := indexed(t, Gzip, data)
	for at := 0; at < len(points); at += 1 + len(points)*scale/300 {
		bad := bytes.Clone(points)
		bad[at] ^= 1
		if err := newReader(t, Gzip, data, Options{}).Restore(bad); !errors.Is(err, ErrPoints) {
			t.Fatalf("flip at %d: %v", at, err)
		}
		if err := newReader(t, Gzip, data, Options{}).Restore(points[:at]); !errors.Is(err, ErrPoints) {
			t.Fatalf("cut at %d: %v", at, err)
		}
	}
	for name, r := range map[string]*Reader{
		"other format": newReader(t, Bzip2, data, Options{}),
		"other length": newReader(t, Gzip, data[:len(data)-1], Options{}),
	} {
		if err := r.Restore(points); !errors.Is(err, ErrPoints) {
			t.Errorf("%s: %v", name, err)
		}
	}
	r := newReader(t, Gzip, data, Options{})
	if err := r.Restore(make([]byte, pointsMax+1)); !errors.Is(err, ErrPoints) {
		t.Error(err)
	}
	if len(r.x.points) != 0 || r.x.size != -1 {
		t.Error("refused points were taken")
	}
}

// TestRestoreFalse: points that are well formed and false are noticed, by streams that begin at them and by those that
// pass them, and the file is read rightly thereafter.
func TestRestoreFalse(t *testing.T) {
	t.Parallel()
	plain := disk(2<<20/(1+scale), 1)
	for name, c := range map[string]struct {
		level int
		spoil func(p *point)
	}{
		"bit":           {6, func(p *point) { p.in++ }},
		"bit, far":      {6, func(p *point) { p.in -= 8000 }},
		"header":        {6, func(p *point) { p.head -= 3 }},
		"checksum":      {6, func(p *point) { p.crc++ }},
		"start":         {6, func(p *point) { p.start += 1000 }},
		"final":         {6, func(p *point) { p.final = !p.final }},
		"state":         {6, func(p *point) { p.state = blockNone }},
		"done":          {6, func(p *point) { p.state = blockDone }},
		"boundary":      {6, func(p *point) { p.window = "" }},
		"no deflate":    {6, func(p *point) { p.window = "what is this" }},
		"other window":  {6, func(p *point) { p.window, _ = packWindow(bytes.Repeat([]byte("wrong"), 7000)[:windowSize]) }},
		"out":           {6, func(p *point) { p.out++ }},
		"stored left":   {0, func(p *point) { p.left++ }},
		"stored place":  {0, func(p *point) { p.in += 8 }},
		"stored window": {0, func(p *point) { p.window, _ = packWindow(make([]byte, windowSize)) }},
	} {
		data := gzipped(t, plain, c.level)
		src, _ := indexed(t, Gzip, data)
		x := &index{format: Gzip, stored: src.stored, size: int64(len(plain)), points: append([]point(nil), src.x.points...)}
		k := len(x.points) / 2
		c.spoil(&x.points[k])
		off := x.points[k].out
		points, _ := x.encode()

		passing := newReader(t, Gzip, data, Options{Every: 64 << 10})
		if err := passing.Restore(points); err != nil {
			if !errors.Is(err, ErrPoints) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		got, err := readFrom(passing, 0, -1)
		// A false window or checksum alone harms nobody who does not start there; the bytes are right in any case.
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%s: passing: %v, %d bytes", name, err, len(got))
		}
		for _, p := range passing.x.points {
			if p.trust == restored {
				t.Errorf("%s: the point at %d is still not decided", name, p.out)
			}
		}
		starting := newReader(t, Gzip, data, Options{Every: 64 << 10})
		if err := starting.Restore(points); err != nil {
			t.Fatal(err)
		}
		got, err = readFrom(starting, off, -1)
		if !errors.Is(err, ErrPoints) && (err != nil || !bytes.Equal(got, plain[off:])) { // stored bytes need no window
			t.Errorf("%s: starting: %v", name, err)
		}
		if errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: the file is blamed: %v", name, err)
		}
		got, err = readFrom(starting, off, -1)
		if err != nil || !bytes.Equal(got, plain[off:]) {
			t.Errorf("%s: starting again: %v, %d bytes", name, err, len(got))
		}
	}
}

// TestRestoreFalseSize: a false size is corrected.
func TestRestoreFalseSize(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20, 1)
	data := gzipped(t, plain, 6)
	for _, size := range []int64{0, 100, 2 << 20} {
		x := &index{format: Gzip, stored: int64(len(data)), size: size}
		points, _ := x.encode()
		r := newReader(t, Gzip, data, Options{})
		if err := r.Restore(points); err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			continue // nothing will ever be read: only the owner's own sums tell
		}
		got, err := readFrom(r, 0, -1)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("size %d: %v, %d bytes", size, err, len(got))
		}
		if n, _, _ := r.Size(background); n != int64(len(plain)) {
			t.Errorf("size %d: now %d", size, n)
		}
	}
}

// TestRestoreRandom spoils saved points at random, with a right checksum: whole reads stay true, and reads from
// anywhere end in an error or are true.
func TestRestoreRandom(t *testing.T) {
	t.Parallel()
	plain := disk(1_200_000/(1+scale), 7)
	rng := rand.New(rand.NewPCG(3, 4))
	for _, f := range []Format{Gzip, Bzip2, XZ, Zstd} {
		data := map[Format]func() []byte{
			Gzip:  func() []byte { return gzipped(t, plain, 6) },
			Bzip2: func() []byte { return command(t, plain, "bzip2", "-1") },
			XZ:    func() []byte { return command(t, plain, "xz", "-0", "--block-size=70000") },
			Zstd:  func() []byte { return frames(t, plain, 70_000, false) },
		}[f]()
		_, points := indexed(t, f, data)
		body := points[:len(points)-sha256.Size]
		taken := 0
		for range 60 / scale {
			bad := bytes.Clone(body)
			for range 1 + rng.IntN(3) {
				bad[len(pointsMagic)+8+rng.IntN(len(bad)-len(pointsMagic)-8)] ^= 1 << rng.IntN(8)
			}
			r := newReader(t, f, data, Options{Every: 64 << 10})
			if err := r.Restore(sign(bad)); err != nil {
				continue
			}
			taken++
			off := rng.Int64N(int64(len(plain)))
			if got, err := readFrom(r, off, -1); err == nil && !bytes.Equal(got, plain[off:]) && r.x.size == int64(len(plain)) {
				t.Fatalf("%s: wrong bytes from %d without an error", f, off)
			}
			r.x.mu.Lock()
			known := r.x.size
			r.x.mu.Unlock()
			if got, err := readFrom(r, 0, -1); known != 0 && (err != nil || !bytes.Equal(got, plain)) {
				t.Fatalf("%s: whole: %v, %d bytes", f, err, len(got))
			}
			r.Close()
		}
		if f == Gzip && taken == 0 {
			t.Error("no spoilt points were taken")
		}
	}
}

func FuzzRestore(f *testing.F) {
	plain := disk(300_000, 1)
	files := map[Format][]byte{
		Gzip:  gzipped(f, plain, 6),
		XZ:    command(f, plain, "xz", "-0", "--block-size=70000"),
		Zstd:  append(command(f, plain[:150_000], "zstd", "-q", "-1"), command(f, plain[150_000:], "zstd", "-q", "-1")...),
		Bzip2: command(f, plain, "bzip2", "-1"),
	}
	for format, data := range files {
		_, points := indexed(f, format, data)
		f.Add(string(format), points[:len(points)-sha256.Size], uint32(100_000))
	}
	f.Fuzz(func(t *testing.T, name string, body []byte, at uint32) {
		format := Format(name)
		data := files[format]
		if data == nil || len(body) > 1<<20 {
			return
		}
		r := newReader(t, format, data, Options{Every: 64 << 10})
		defer r.Close()
		if err := r.Restore(sign(body)); err != nil {
			if !errors.Is(err, ErrPoints) || len(r.x.points) != 0 {
				t.Fatal(err)
			}
			return
		}
		again, _ := r.Points()
		fresh := newReader(t, format, data, Options{Every: 64 << 10})
		defer fresh.Close()
		if err := fresh.Restore(again); err != nil {
			t.Fatalf("what Points gave is refused: %v", err)
		}
		readFrom(r, int64(at)%int64(len(plain)), -1)
		// Points that lie may end a read, but not change what it gives.
		if got, err := readFrom(fresh, 0, -1); err != nil && !errors.Is(err, ErrLimit) || !bytes.HasPrefix(plain, got) {
			t.Fatalf("whole: %v, %d bytes", err, len(got))
		}
	})
}

// TestFarHeader: one block of prefix codes of several MiB, so that a point lies far behind its tables.
func TestFarHeader(t *testing.T) {
	t.Parallel()
	plain := disk(1<<20+500_000, 5)
	w := &bitWriter{b: []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}}
	w.block("fixed", true, plain)
	w.align()
	data := binary.LittleEndian.AppendUint32(w.b, crcOf(plain))
	data = binary.LittleEndian.AppendUint32(data, uint32(len(plain)))
	if got := command(t, data, "gzip", "-dc"); !bytes.Equal(got, plain) {
		t.Fatal("not what was meant")
	}
	sweep(t, Gzip, data, plain)
	src := &counting{memory: data}
	r, _ := Open(Gzip, src, int64(len(data)), Options{Every: 256 << 10})
	defer r.Close()
	_, points := indexed(t, Gzip, data)
	if err := r.Restore(points); err != nil {
		t.Fatal(err)
	}
	off := int64(1 << 20)
	got, err := readFrom(r, off, 1000)
	if err != nil || !bytes.Equal(got, plain[off:off+1000]) || src.total() > 1<<20 {
		t.Fatal(err, src.total())
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"a.img.gz": "a.img gzip", "A.XZ": "A xz", ".gz": ".gz ", "x.zst": "x zstd", "b.bz2": "b bzip2", "gz": "gz "} {
		if f, plain := PlainName(name); plain+" "+string(f) != want {
			t.Errorf("%s: %s %s", name, plain, f)
		}
	}
	for head, want := range map[string]Format{"\x1f\x8b\x08\x00": Gzip, "\xfd7zXZ\x00": XZ, "\x28\xb5\x2f\xfd": Zstd, "BZh91AY&SY": Bzip2, "BZh": "", "BZh9 hello": "", "BZh9\x17rE8P\x90": Bzip2,
		"\x50\x2a\x4d\x18": "", "\x50\x2a\x4d\x18\x02\x00\x00\x00ab\x28\xb5\x2f\xfd": Zstd, "\x5f\x2a\x4d\x18\x02\x00\x00\x00ab\x04\x22\x4d\x18": "",
		"\x5f\x2a\x4d\x18\x00\x00\x00\x01": Zstd, "\x50\x2a\x4d\x18\x00\x00\x00\x00\x50\x2a\x4d\x18\x00\x00\x00\x00\x28\xb5\x2f\xfd": Zstd, "": "", "QFI\xfb": ""} {
		if f := Detect([]byte(head)); f != want {
			t.Errorf("%q: %s", head, f)
		}
	}
	err := error(&Error{Format: Gzip, Stored: 1, Plain: 2, Err: io.ErrUnexpectedEOF})
	if !strings.Contains(err.Error(), "stored offset 1, plain offset 2") {
		t.Error(err)
	}
}
