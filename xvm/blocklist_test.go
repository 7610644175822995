package xvm

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBlockListRoundTrip(t *testing.T) {
	t.Parallel()
	type block struct {
		sum    [32]byte
		zero   bool
		stored int64
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int64{0, 1, 63, 64, 65, 128, 1000} {
		for _, member := range []string{"", "a b.img.gz"} {
			const bs = 4096
			size := n*bs - min(n, 1)*100
			blocks := make([]block, n)
			var out bytes.Buffer
			w := NewBlockListWriter(&out)
			if err := w.Begin("other", "", 1, bs); err != nil {
				t.Fatal(err)
			}
			if err := w.Block(sha256.Sum256([]byte{1}), 0); err != nil {
				t.Fatal(err)
			}
			if err := w.Begin("a b.img", member, size, bs); err != nil {
				t.Fatal(err)
			}
			for i := range blocks {
				b := &blocks[i]
				if member != "" {
					b.stored = 20 + rnd.Int64N(3)
				}
				if b.zero = rnd.IntN(2) == 0; b.zero {
					if err := w.Zero(b.stored); err != nil {
						t.Fatal(err)
					}
					continue
				}
				b.sum = sha256.Sum256([]byte{byte(i), byte(i >> 8)})
				if err := w.Block(b.sum, b.stored); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			l, err := ParseBlockList(iotest.OneByteReader(&out))
			if err != nil {
				t.Fatal(err)
			}
			if len(l.Images()) != 2 || l.Image("other") == nil || l.Image("absent") != nil {
				t.Fatal("images")
			}
			m := l.Image("a b.img")
			if m.Blocks() != n || m.Size != size || m.Member != member || m.BlockSize != bs {
				t.Fatalf("%+v", m)
			}
			var off int64
			for i, b := range blocks {
				sum, zero, ok := m.Sum(int64(i))
				if !ok || zero != b.zero || sum != b.sum {
					t.Fatalf("Sum(%d) = %x %v %v", i, sum, zero, ok)
				}
				o, l, ok := m.Place(int64(i))
				if ok != (member != "" && !b.zero) || ok && (o != off || l != b.stored) {
					t.Fatalf("Place(%d) = %d %d %v", i, o, l, ok)
				}
				off += b.stored
			}
			if m.Stored != off {
				t.Fatalf("stored %d instead of %d", m.Stored, off)
			}
			for _, i := range []int64{-1, n, n + 64, 1 << 62} {
				if _, _, ok := m.Sum(i); ok {
					t.Errorf("Sum(%d) of %d blocks", i, n)
				}
				if _, _, ok := m.Place(i); ok {
					t.Errorf("Place(%d) of %d blocks", i, n)
				}
			}
		}
	}
}

func TestBlockListRefused(t *testing.T) {
	t.Parallel()
	h := hex64 + "\n"
	good := "vmcast-blocks 1\nimage a\nsize 5000\nblock 4096\nfuture thing\nblocks 2\n" + h + "zero 1\nend\n"
	if _, err := ParseBlockList(strings.NewReader(good)); err != nil {
		t.Fatal(err)
	}
	if _, err := ParseBlockList(strings.NewReader(strings.ReplaceAll(good, "\n", "\r\n"))); err != nil {
		t.Fatal(err)
	}
	for i := range len(good) {
		if _, err := ParseBlockList(strings.NewReader(good[:i])); !errors.Is(err, ErrBlockList) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
	replace := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatalf("%q is not in the list", old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for name, text := range map[string]string{
		"version":           replace("blocks 1", "blocks 2"),
		"html":              "<html>",
		"dotdot":            replace("image a", "image ../a"),
		"name not shortest": replace("image a", "image ./a"),
		"empty name":        replace("image a", "image "),
		"member dotdot":     replace("size", "member ../b\nsize"),
		"negative size":     replace("5000", "-1"),
		"signed size":       replace("5000", "+5000"),
		"overflow":          replace("5000", "99999999999999999999"),
		"no size":           replace("size 5000\n", ""),
		"huge size":         replace("5000", "999999999999999999"),
		"block size 0":      replace("4096", "0"),
		"block size odd":    replace("4096", "5000"),
		"block size small":  replace("4096", "2048"),
		"block size huge":   replace("4096", "16777216"),
		"count":             replace("blocks 2", "blocks 3"),
		"too many zeros":    replace("zero 1", "zero 2"),
		"no zeros":          replace("zero 1", "zero 0"),
		"zeros run over":    replace("zero 1", "zero 999999999999999999"),
		"short sum":         replace(h, h[1:]),
		"not hex":           replace("c3", "zz"),
		"sum too many":      replace("end", h+"end"),
		"length, no member": replace(h, hex64+" 5\n"),
		"no length":         replace("size", "member m\nsize"),
		"after the end":     good + "x",
		"image twice":       replace("end", good[len("vmcast-blocks 1\n"):]),
		"long line":         replace("future", strings.Repeat("f", maxBlockListLine)),
		"member twice": "vmcast-blocks 1\nimage a\nsize 0\nblock 4096\nmember m\nblocks 0\n" +
			"image b\nsize 0\nblock 4096\nmember m\nblocks 0\nend\n",
		"stored overflow": "vmcast-blocks 1\nimage a\nsize 99999999999\nblock 4096\nmember m\nblocks 24414063\nzero 24414063 16777215\nend\n",
		"stored too long": "vmcast-blocks 1\nimage a\nsize 1\nblock 4096\nmember m\nblocks 1\n" + hex64 + " 16777216\nend\n",
	} {
		if l, err := ParseBlockList(strings.NewReader(text)); !errors.Is(err, ErrBlockList) || l != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	boom := errors.New("boom")
	if _, err := ParseBlockList(iotest.ErrReader(boom)); !errors.Is(err, boom) || errors.Is(err, ErrBlockList) {
		t.Errorf("read error: %v", err)
	}
}

func TestBlockListWriterRefuses(t *testing.T) {
	t.Parallel()
	var sum [32]byte
	for name, use := range map[string]func(w *BlockListWriter) error{
		"block without image": func(w *BlockListWriter) error { return w.Block(sum, 0) },
		"zero without image":  func(w *BlockListWriter) error { return w.Zero(0) },
		"bad name":            func(w *BlockListWriter) error { return w.Begin("a\nb", "", 1, 4096) },
		"bad block size":      func(w *BlockListWriter) error { return w.Begin("a", "", 1, 4097) },
		"too many": func(w *BlockListWriter) error {
			w.Begin("a", "", 1, 4096)
			w.Zero(0)
			return w.Block(sum, 0)
		},
		"too few": func(w *BlockListWriter) error {
			w.Begin("a", "", 1, 4096)
			return w.Close()
		},
		"length, no member": func(w *BlockListWriter) error {
			w.Begin("a", "", 1, 4096)
			return w.Block(sum, 1)
		},
		"no length": func(w *BlockListWriter) error {
			w.Begin("a", "m", 1, 4096)
			return w.Zero(0)
		},
		"twice": func(w *BlockListWriter) error {
			w.Begin("a", "", 0, 4096)
			return w.Begin("a", "", 0, 4096)
		},
	} {
		w := NewBlockListWriter(&bytes.Buffer{})
		if err := use(w); !errors.Is(err, ErrBlockList) {
			t.Errorf("%s: %v", name, err)
		}
		if err := w.Close(); err == nil {
			t.Errorf("%s: the error did not stay", name)
		}
	}
}

// TestBlockListMemory keeps the promise of some 32 bytes a block, and of next
// to none for zeros, however many there are.
func TestBlockListMemory(t *testing.T) {
	const n, zeros = 100_000, 4_000_000
	var text bytes.Buffer
	w := NewBlockListWriter(&text)
	if err := w.Begin("a", "", (n+zeros)*4096, 4096); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		w.Block(sha256.Sum256(fmt.Append(nil, i)), 0)
	}
	for range zeros {
		w.Zero(0)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l, err := ParseBlockList(&text)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if got, limit := int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(n*32*5/4+zeros/4); got > limit {
		t.Errorf("%d bytes for %d sums and %d zeros, limit %d", got, n, zeros, limit)
	}
	runtime.KeepAlive(l)
}

// TestBlockListByShell makes a list, and blocks compressed one by one, with
// nothing but standard tools, as blocklist.go shows.
func TestBlockListByShell(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	image := make([]byte, 300_000)
	for i := range image[:200_000] {
		image[i] = byte(i * i >> 7)
	}
	if err := os.WriteFile(filepath.Join(dir, "root.img"), image, 0o644); err != nil {
		t.Fatal(err)
	}
	script := `set -e
s=$(stat -c %s root.img)
{ echo vmcast-blocks 1
  echo image root.img
  echo size $s
  echo block 65536
  echo member root.img.gz
  echo blocks $(( (s + 65535) / 65536 ))
  split -b 65536 --filter='t=$(mktemp); cat >$t
    gzip -n <$t >$t.gz; cat $t.gz >>root.img.gz
    echo $(sha256sum <$t | cut -c1-64) $(stat -c %s $t.gz); rm $t $t.gz' root.img
  echo end; } >blocks.txt
gunzip -c root.img.gz | cmp - root.img
{ echo vmcast-blocks 1; echo image root.img; echo size $s; echo block 65536
  echo blocks $(( (s + 65535) / 65536 ))
  split -b 65536 --filter='sha256sum | cut -c1-64' root.img
  echo end; } >plain.txt
split -b 65536 --filter='sha256sum | cut -c1-64' root.img >sums
grep -xE '[0-9a-f]{64}' plain.txt | cmp - sums`
	cmd := exec.Command("sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"blocks.txt", "plain.txt"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		l, err := ParseBlockList(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		m := l.Image("root.img")
		if m == nil || m.Blocks() != 5 {
			t.Fatalf("%+v", m)
		}
		for i := range m.Blocks() {
			want := sha256.Sum256(image[i*65536 : min(int64(len(image)), (i+1)*65536)])
			if sum, zero, ok := m.Sum(i); !ok || zero || sum != want {
				t.Errorf("block %d: %x %v %v", i, sum, zero, ok)
			}
		}
		if m.Member == "" {
			continue
		}
		if fi, err := os.Stat(filepath.Join(dir, m.Member)); err != nil || fi.Size() != m.Stored {
			t.Errorf("stored %d, %v %v", m.Stored, fi.Size(), err)
		}
		gz, err := os.ReadFile(filepath.Join(dir, m.Member))
		if err != nil {
			t.Fatal(err)
		}
		off, n, ok := m.Place(3)
		if !ok {
			t.Fatal("no place")
		}
		r, err := gzip.NewReader(bytes.NewReader(gz[off : off+n]))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, image[3*65536:4*65536]) {
			t.Errorf("block 3 inflates to %d bytes, %v", len(got), err)
		}
	}
}

func FuzzParseBlockList(f *testing.F) {
	f.Add([]byte("vmcast-blocks 1\nimage a\nsize 5000\nblock 4096\nblocks 2\n" + hex64 + "\nzero 1\nend\n"))
	f.Add([]byte("vmcast-blocks 1\nimage a\nsize 15000\nblock 4096\nmember a.gz\nblocks 4\n" + hex64 + " 9\nzero 3 22\nend\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := ParseBlockList(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		w := NewBlockListWriter(&out)
		for _, m := range l.Images() {
			if m.Blocks() > 1<<16 {
				return
			}
			w.Begin(m.Name, m.Member, m.Size, m.BlockSize)
			var end int64
			for i := range m.Blocks() {
				sum, zero, ok := m.Sum(i)
				if !ok {
					t.Fatalf("no block %d", i)
				}
				if zero {
					if m.Member != "" {
						return // its length is not kept
					}
					w.Zero(0)
					continue
				}
				off, n, ok := m.Place(i)
				if ok != (m.Member != "") || off < end || n < 0 || off+n > m.Stored {
					t.Fatalf("block %d at %d, %d of %d", i, off, n, m.Stored)
				}
				end = off + n
				w.Block(sum, n)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := ParseBlockList(&out)
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range l.Images() {
			if !reflect.DeepEqual(m, again.Images()[i]) {
				t.Fatalf("%v became %v", *m, *again.Images()[i])
			}
		}
	})
}

func BenchmarkParseBlockList(b *testing.B) {
	var text bytes.Buffer
	w := NewBlockListWriter(&text)
	w.Begin("a", "a.gz", 16384<<16, 1<<16)
	for i := range 16384 {
		w.Block(sha256.Sum256(fmt.Append(nil, i)), int64(30000+i))
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseBlockList(bytes.NewReader(text.Bytes())); err != nil {
			b.Fatal(err)
		}
	}
}
