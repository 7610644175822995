package seekable

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
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

// usualChunks are those of a Reader.
var usualChunks = chunks{chunkMin, chunkMax}

// inflateAll decodes data that is read in chunks, in pieces of at most limit.
func inflateAll(data []byte, by chunks, limit int) ([]byte, error) {
	in := newInput(context.Background(), memory(data), int64(len(data)), 0, by)
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
	t.Parallel()
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
				got, err := inflateAll(data, usualChunks, limit)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s level %d limit %d: %v, %d bytes of %d, equal %v", name, level, limit, err, len(got), len(plain), bytes.Equal(got, plain))
				}
			}
		}
	}
}

func TestInflateTruncated(t *testing.T) {
	t.Parallel()
	plain := disk(2000+7000/scale, 3)
	data := deflate(t, plain, 6)
	for n := range data {
		got, err := inflateAll(data[:n], usualChunks, 4096)
		if err != io.ErrUnexpectedEOF || !bytes.HasPrefix(plain, got) {
			t.Fatalf("%d of %d bytes: %v after %d bytes, prefix %v", n, len(data), err, len(got), bytes.HasPrefix(plain, got))
		}
	}
}

// FuzzInflate compares with compress/flate: the same verdict and the same bytes, whatever the chunks of the input are.
func FuzzInflate(f *testing.F) {
	f.Add([]byte{3, 0}, uint16(1))
	f.Add([]byte{1, 0, 0, 0xff, 0xff}, uint16(3))
	for _, n := range []int{0, 1, 300, 70000} {
		for level := -2; level <= 9; level += 3 {
			f.Add(deflate(f, disk(n, uint64(n)), level), uint16(7+n))
		}
	}
	for i, kind := range blockKinds {
		data, _ := blockAt(kind, blockKinds[(i+1)%len(blockKinds)], 1000)
		f.Add(data, uint16(1003))
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(data)), 1<<24))
		if len(want) == 1<<24 {
			t.Skip()
		}
		for _, by := range []chunks{usualChunks, fuzzChunks(chunk)} {
			got, err := inflateAll(data, by, 1+len(data)%pieceMax)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%v, stdlib %v", err, wantErr)
			}
			// After an error stdlib may have gone a symbol further or less far.
			if !bytes.Equal(got, want) && (err == nil || !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got)) {
				t.Fatalf("%d bytes, stdlib %d; errors %v, %v", len(got), len(want), err, wantErr)
			}
		}
	})
}

// fuzzChunks are small ones, of 1 to 1024 bytes.
func fuzzChunks(n uint16) chunks {
	size := int64(n%1024) + 1
	return chunks{size, size * int64(1+n>>14)}
}

// FuzzGzip compares with compress/gzip, which calls what follows the last member an error.
func FuzzGzip(f *testing.F) {
	two := append(gzipped(f, disk(3000, 1), 6), gzipped(f, []byte("more"), 1)...)
	f.Add(two, uint16(7))
	f.Add(append(two, 0, 0, 0, 'x'), uint16(1))
	f.Add(members(f, disk(10_000, 2), MemberOptions{BlockSize: 4096}), uint16(4095))
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		var want []byte
		z, wantErr := gzip.NewReader(bytes.NewReader(data))
		if wantErr == nil {
			want, wantErr = io.ReadAll(io.LimitReader(z, 1<<22))
		}
		if len(want) == 1<<22 {
			t.Skip()
		}
		for _, by := range []chunks{usualChunks, fuzzChunks(chunk)} {
			got, err := readFrom(newReader(t, Gzip, data, Options{MaxSize: 1 << 22, chunks: by}), 0, -1)
			switch {
			case err == nil && wantErr != nil && wantErr != gzip.ErrHeader && wantErr != io.ErrUnexpectedEOF:
				t.Fatalf("no error, stdlib %v", wantErr)
			case err != nil && wantErr == nil:
				t.Fatalf("%v, stdlib has no error", err)
			case !bytes.Equal(got, want) && (err == nil || !bytes.HasPrefix(got, want) && !bytes.HasPrefix(want, got)):
				t.Fatalf("%d bytes, stdlib %d; errors %v, %v", len(got), len(want), err, wantErr)
			}
		}
		fuzzReader(t, Gzip, data, chunk)
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
			in := newInput(context.Background(), memory(data), int64(len(data)), 0, usualChunks)
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
