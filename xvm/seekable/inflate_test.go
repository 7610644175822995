package seekable

import (
	"bytes"
	"compress/flate"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	kflate "github.com/klauspost/compress/flate"
)

// memory is a ReaderAt of bytes.
type memory []byte

func (m memory) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	return bytes.NewReader(m).ReadAt(p, off)
}

// disk makes n bytes like those of a disk image: zeros, text, random and repeated blocks.
func disk(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, 0, n+1<<16)
	for len(b) < n {
		k := 512 * (1 + r.IntN(64))
		switch r.IntN(6) {
		case 0:
			b = append(b, make([]byte, k)...)
		case 1:
			for range k / 8 {
				v := r.Uint64()
				b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24), byte(v>>32), byte(v>>40), byte(v>>48), byte(v>>56))
			}
		case 2:
			if len(b) > 40000 {
				at := r.IntN(len(b) - 30000)
				b = append(b, b[at:at+min(k, 30000)]...)
			}
		case 3:
			for range k / 16 {
				b = fmt.Appendf(b, "%08x\x00\x00\x00\x00\x00\x00\x10\x00", r.IntN(1<<20))
			}
		default:
			for len(b)%512 != 0 || k > 0 {
				w := words[r.IntN(len(words))]
				b = append(b, w...)
				k -= len(w)
				if k <= 0 {
					break
				}
			}
		}
	}
	return b[:n]
}

var words = []string{"the ", "kernel ", "mount ", "systemd ", "/usr/lib/x86_64-linux-gnu/", "lib", ".so.6\x00", "\n", "GLIBC_2.17\x00",
	"int ", "return ", "static ", "=", "0x7f", "ELF", "\x48\x89\xe5", "\x0f\x1f\x44\x00\x00", "\xe8\x00\x00\x00\x00", "config", "_", "\t", "# "}

func deflate(t testing.TB, b []byte, level int) []byte {
	var out bytes.Buffer
	w, err := flate.NewWriter(&out, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(b)
	w.Close()
	return out.Bytes()
}

// inflateAll decodes data in pieces of at most limit.
func inflateAll(data []byte, limit int) ([]byte, error) {
	in := newInput(context.Background(), memory(data), int64(len(data)), 0)
	defer in.close()
	z := new(inflater)
	z.reset(in)
	var out []byte
	for {
		p, err := z.next(limit)
		out = append(out, p...)
		if err == io.EOF {
			return out, nil
		}
		if err != nil || len(out) > 1<<30 {
			return out, err
		}
	}
}

func TestInflate(t *testing.T) {
	text := bytes.Repeat([]byte("hello, seekable world. "), 4000/scale)
	noise := make([]byte, 100000/scale)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	for name, plain := range map[string][]byte{
		"empty": nil, "one": {7}, "text": text, "noise": noise, "zeros": make([]byte, 300000/scale), "disk": disk(600000/scale, 1),
	} {
		for level := -2; level <= 9; level++ {
			data := deflate(t, plain, level)
			for _, limit := range []int{1, 777, 65536, pieceMax} {
				if limit == 1 && level%4 != 2 {
					continue
				}
				got, err := inflateAll(data, limit)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s level %d limit %d: %v, %d bytes of %d, equal %v", name, level, limit, err, len(got), len(plain), bytes.Equal(got, plain))
				}
			}
		}
	}
}

func TestInflateTruncated(t *testing.T) {
	plain := disk(2000+7000/scale, 3)
	data := deflate(t, plain, 6)
	for n := range data {
		got, err := inflateAll(data[:n], 4096)
		if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(plain, got) {
			t.Fatalf("%d of %d bytes: %v after %d bytes, prefix %v", n, len(data), err, len(got), bytes.HasPrefix(plain, got))
		}
	}
}

// FuzzInflate compares with compress/flate: the same verdict and the same bytes.
func FuzzInflate(f *testing.F) {
	f.Add([]byte{3, 0})
	f.Add([]byte{1, 0, 0, 0xff, 0xff})
	for _, n := range []int{0, 1, 300, 70000} {
		for level := -2; level <= 9; level += 3 {
			f.Add(deflate(f, disk(n, uint64(n)), level))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 1<<24))
		if len(want) == 1<<24 {
			t.Skip()
		}
		got, err := inflateAll(data, 1+len(data)%pieceMax)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, stdlib %v", err, wantErr)
		}
		// After an error stdlib may have gone a symbol further or less far.
		if !bytes.Equal(got, want) && (err == nil || !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got)) {
			t.Fatalf("%d bytes, stdlib %d; errors %v, %v", len(got), len(want), err, wantErr)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	plain := disk(32<<20, 1)
	for _, level := range []int{1, 6} {
		data := deflate(b, plain, level)
		run := func(name string, f func() int64) {
			b.Run(fmt.Sprintf("%s/level%d", name, level), func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					if f() != int64(len(plain)) {
						b.Fatal("short")
					}
				}
			})
		}
		z := new(inflater)
		run("ours", func() int64 {
			in := newInput(context.Background(), memory(data), int64(len(data)), 0)
			defer in.close()
			z.reset(in)
			n := int64(0)
			for {
				p, err := z.next(pieceMax)
				n += int64(len(p))
				if err != nil {
					return n
				}
			}
		})
		run("stdlib", func() int64 {
			n, _ := io.Copy(io.Discard, flate.NewReader(bytes.NewReader(data)))
			return n
		})
		run("klauspost", func() int64 {
			n, _ := io.Copy(io.Discard, kflate.NewReader(bytes.NewReader(data)))
			return n
		})
	}
}
