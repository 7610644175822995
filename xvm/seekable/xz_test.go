package seekable

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/ulikunitz/xz"
)

func TestXZ(t *testing.T) {
	t.Parallel()
	for name, plain := range plains() {
		for _, args := range [][]string{
			{"xz", "-6"}, {"xz", "-0", "-T2", "--block-size=200000", "--check=crc32"}, {"xz", "-1", "--check=sha256", "--block-size=65536"}, {"xz", "-0", "--check=none"},
		} {
			t.Run(fmt.Sprint(name, args[1:]), func(t *testing.T) {
				data := command(t, plain, args...)
				r := newReader(t, XZ, data, Options{})
				if n, known, err := r.Size(background); n != int64(len(plain)) || !known || err != nil {
					t.Fatalf("size %d %v %v", n, known, err)
				}
				sweep(t, XZ, data, plain)
			})
		}
	}
}

// TestXZBlocks: a block is reached without decoding, and nearly without reading, what lies before it.
func TestXZBlocks(t *testing.T) {
	t.Parallel()
	plain := disk(2<<20, 3)
	src := &counting{memory: command(t, plain, "xz", "-0", "--block-size=262144")}
	r, err := Open(XZ, src, int64(len(src.memory)), Options{Every: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, known, err := r.Size(background); n != int64(len(plain)) || !known || err != nil {
		t.Fatal(n, known, err)
	}
	for _, off := range []int64{7 << 18, 3<<19 + 5, 5<<18 - 1} {
		if s := r.Start(off); s != off&^(256<<10-1) {
			t.Errorf("start of %d is %d", off, s)
		}
		before := src.total()
		got, err := readFrom(r, off, 1000)
		if err != nil || !bytes.Equal(got, plain[off:off+1000]) {
			t.Fatal(off, err)
		}
		if n := src.total() - before; n > 800<<10 || n == 0 {
			t.Errorf("%d bytes read for 1000", n)
		}
	}
}

// TestXZStreams: several streams with padding between and behind them.
func TestXZStreams(t *testing.T) {
	t.Parallel()
	var plain, data []byte
	for i := range 5 {
		b := disk(100_000*i/scale, uint64(i))
		plain = append(plain, b...)
		data = append(data, command(t, b, "xz", "-0", "--block-size=90000", fmt.Sprintf("--check=%s", []string{"crc32", "crc64", "sha256", "none", "crc64"}[i]))...)
		data = append(data, make([]byte, 4*i*700)...)
	}
	r := newReader(t, XZ, data, Options{})
	if n, known, err := r.Size(background); n != int64(len(plain)) || !known || err != nil {
		t.Fatal(n, known, err)
	}
	sweep(t, XZ, data, plain)
	bad := append(bytes.Clone(data), 0, 0)
	if got, err := readFrom(newReader(t, XZ, bad, Options{}), 0, -1); !errors.Is(err, ErrCorrupt) || !bytes.Equal(got, plain) {
		t.Error(len(got), err)
	}
}

// TestXZDamage: each flipped byte and each cut is noticed, and nothing wrong comes before.
func TestXZDamage(t *testing.T) {
	t.Parallel()
	plain := disk(40_000, 3)
	data := command(t, plain, "xz", "-0", "--block-size=10000")
	for at := 0; at < len(data); at += 1 + len(data)*scale/500 {
		bad := bytes.Clone(data)
		bad[at] ^= 4
		got, err := readFrom(newReader(t, XZ, bad, Options{}), 0, -1)
		if err == nil {
			t.Errorf("flip at %d of %d: no error", at, len(data))
		}
		if n := len(got) &^ 0xffff; !bytes.HasPrefix(plain, got[:n]) {
			t.Errorf("flip at %d: wrong bytes", at)
		}
		got, err = readFrom(newReader(t, XZ, data[:at], Options{}), 0, -1)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(plain, got) {
			t.Errorf("cut at %d: %v after %d", at, err, len(got))
		}
	}
}

// TestC1XZ: dictionaries, false sizes.
func TestC1XZ(t *testing.T) {
	t.Parallel()
	data := command(t, make([]byte, 8<<20), "xz", "--lzma2=dict=64MiB", "-T1")
	r := newReader(t, XZ, data, Options{MaxWindow: 1 << 20})
	if _, err := readFrom(r, 0, -1); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	r = newReader(t, XZ, data, Options{MaxSize: 1 << 20})
	if _, _, err := r.Size(background); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	data = command(t, disk(100_000, 1), "xz", "--sparc", "--lzma2=preset=0")
	if _, err := readFrom(newReader(t, XZ, data, Options{}), 0, -1); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// TestLZMA2Grow: dictionaries smaller than the data wrap, larger ones grow.
func TestLZMA2Grow(t *testing.T) {
	t.Parallel()
	plain := disk(3_000_000/scale, 11)
	for _, dict := range []string{"4KiB", "100KiB", "16MiB"} {
		for _, more := range []string{"", ",lc=0,lp=4,pb=0", ",lc=1,lp=2,pb=4"} {
			data := command(t, plain, "xz", "--lzma2=preset=0,dict="+dict+more, "-T1")
			got, err := readFrom(newReader(t, XZ, data, Options{}), 0, -1)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s%s: %v, %d bytes", dict, more, err, len(got))
			}
		}
	}
}

func BenchmarkXZ(b *testing.B) {
	plain := disk(16<<20, 1)
	data := command(b, plain, "xz", "-1", "-T1")
	run := func(name string, f func() (int64, error)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				if n, err := f(); err != nil || n != int64(len(plain)) {
					b.Fatal(n, err)
				}
			}
		})
	}
	run("ours", func() (int64, error) {
		got, err := readFrom(newReader(b, XZ, data, Options{}), 0, -1)
		return int64(len(got)), err
	})
	run("ulikunitz", func() (int64, error) {
		r, err := xz.NewReader(bytes.NewReader(data))
		if err != nil {
			return 0, err
		}
		return io.Copy(io.Discard, r)
	})
}

func FuzzXZ(f *testing.F) {
	for _, n := range []int{0, 1, 5000} {
		f.Add(command(f, disk(n, 1), "xz", "-0", "--block-size=2000"), uint16(n))
	}
	f.Add(command(f, machineCode(3000, 1), "xz", "--delta=dist=4", "--x86", "--arm64", "--lzma2=preset=0"), uint16(5))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		// Against another decoder: what it takes has to be the same here.
		if r, err := xz.NewReader(bytes.NewReader(data)); err == nil {
			want, err := io.ReadAll(io.LimitReader(r, 1<<22))
			if err == nil && len(want) < 1<<22 {
				got, err := readFrom(newReader(t, XZ, data, Options{}), 0, -1)
				cut := errors.Is(err, io.ErrUnexpectedEOF) // between blocks that is no error there
				if (err != nil || !bytes.Equal(got, want)) && !errors.Is(err, ErrLimit) && !cut && !(errors.Is(err, ErrCorrupt) && refusedByXZ(data)) {
					t.Fatalf("%v, %d bytes; other decoder %d", err, len(got), len(want))
				}
			}
		}
		fuzzReader(t, XZ, data, chunk)
	})
}

// refusedByXZ has xz itself decide between two decoders, of which the other one is
// lax now and then.
func refusedByXZ(data []byte) bool {
	cmd := exec.Command("xz", "--test")
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Run() != nil
}

// fuzzReader: no panic, no hang, and random access in small chunks agrees with the way from the beginning in usual ones.
func fuzzReader(t *testing.T, f Format, data []byte, chunk uint16) {
	r, err := Open(f, memory(data), int64(len(data)), Options{MaxSize: 1 << 22, MaxWindow: 1 << 20, Every: 64 << 10, chunks: fuzzChunks(chunk)})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	forward, _ := Open(f, memory(data), int64(len(data)), Options{MaxSize: 1 << 22, MaxWindow: 1 << 20})
	defer forward.Close()
	forward.table.done = true
	plain, plainErr := readFrom(forward, 0, -1)
	n, known, _ := r.Size(background)
	for _, off := range []int64{int64(len(plain)) / 2, int64(len(plain)) - 1, 0} {
		if off < 0 {
			continue
		}
		got, err := readFrom(r, off, -1)
		if known && off >= n {
			// A table that tells too little ends the file, until a run from before that end finds out.
			if len(got) > 0 && !bytes.Equal(got, plain[off:]) {
				t.Fatalf("from %d: %v, %d wrong bytes behind the size of %d", off, err, len(got), n)
			}
			continue
		}
		if plainErr == nil && (err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrLimit) || err == nil && !bytes.Equal(got, plain[off:]) && known) {
			// A table that is wrong about an earlier frame is found out by a run that comes through it.
			if _, whole := readFrom(r, 0, -1); off > 0 && err == nil && errors.Is(whole, ErrCorrupt) {
				return
			}
			t.Fatalf("from %d: %v, %d bytes of %d; size %d", off, err, len(got), len(plain), n)
		}
	}
	if plainErr == nil {
		fresh, _ := Open(f, memory(data), int64(len(data)), Options{MaxSize: 1 << 22, MaxWindow: 1 << 20, chunks: fuzzChunks(chunk)})
		defer fresh.Close()
		points, _ := forward.Points()
		if err := fresh.Restore(points); err != nil {
			t.Fatal(err)
		}
		if got, err := readFrom(fresh, int64(len(plain))/3, -1); err != nil || !bytes.Equal(got, plain[len(plain)/3:]) {
			t.Fatalf("restored: %v", err)
		}
	}
}
