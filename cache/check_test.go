package cache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// blockSums is a BlockSums in memory.
type blockSums struct {
	sums   [][32]byte
	zero   map[int64]bool
	unread atomic.Pointer[error] // not nil: the sums cannot be read
}

func sumsOf(data []byte, bs int) *blockSums {
	s := &blockSums{zero: map[int64]bool{}}
	for off := 0; off < len(data); off += bs {
		s.sums = append(s.sums, sha256.Sum256(data[off:min(off+bs, len(data))]))
	}
	return s
}

func (s *blockSums) Known(b int64) (zero, ok bool) {
	return s.zero[b], b >= 0 && b < int64(len(s.sums))
}

func (s *blockSums) Sum(_ context.Context, b int64) ([32]byte, error) {
	if err := s.unread.Load(); err != nil {
		return s.sums[b], *err
	}
	return s.sums[b], nil
}

// TestBlockSums: a wrong block is fetched once more; wrong twice it fails alone.
func TestBlockSums(t *testing.T) {
	const bs = 4096
	data := truth(16 * bs)
	for _, forward := range []bool{false, true} {
		for _, times := range []int32{1, 2, 3} {
			t.Run(fmt.Sprintf("forward %v, wrong %d times", forward, times), func(t *testing.T) {
				var wrong atomic.Int32
				wrong.Store(times)
				flip := func(off, n int64, r io.Reader) io.Reader {
					if off > 5*bs || n >= 0 && off+n <= 5*bs || wrong.Add(-1) < 0 {
						return r
					}
					p, _ := io.ReadAll(r)
					p = bytes.Clone(p)
					p[5*bs+7-off] ^= 1
					return bytes.NewReader(p)
				}
				spec := Spec{Size: int64(len(data)), BlockSize: bs, Blocks: sumsOf(data, bs)}
				if forward {
					spec.Source = &forwardScript{script: script{data: data, body: flip}, points: bs}
				} else {
					spec.Source = &script{data: data, body: flip}
				}
				c := newCache(t, Options{})
				f := mustOpen(t, c, spec)
				p := make([]byte, bs)
				_, err := f.ReadAt(ctx, p, 5*bs)
				var bad *BlockError
				if times == 1 && (err != nil || !bytes.Equal(p, data[5*bs:6*bs])) {
					t.Fatalf("once wrong: %v", err)
				}
				if times >= 2 && (!errors.As(err, &bad) || bad.Block != 5 || bad.Off != 5*bs) {
					t.Fatalf("%d times wrong: %v", times, err)
				}
				for b := range int64(16) {
					if _, err := f.ReadAt(ctx, p, b*bs); err != nil || !bytes.Equal(p, data[b*bs:(b+1)*bs]) {
						t.Errorf("block %d: %v", b, err)
					}
				}
				if err := f.Complete(ctx); err != nil || f.State() != store.Verified {
					t.Error("complete:", err, f.State())
				}
			})
		}
	}
}

// TestSpecRefused lists specs that make no sense.
func TestSpecRefused(t *testing.T) {
	src := &script{}
	c := newCache(t, Options{})
	for _, s := range []Spec{
		{},
		{Source: src, BlockSize: 5000},
		{Source: src, BlockSize: 1 << 30},
		{Source: src, Size: -2},
		{Source: src, Size: store.Unknown},
		{Source: src, Size: 1 << 62},
		{Source: src, Size: 5, MaxSize: 4},
		{Source: src, Sums: []sums.Sum{{Algo: "crc32", Hex: "00000000"}}},
		{Source: src, Sums: []sums.Sum{{Algo: "md5", Hex: "00"}}},
		{Source: src, Size: 5, Sums: []sums.Sum{{Algo: "md5", Hex: sumOf("md5", nil).Hex, Prefix: 6}}},
		{Source: src, Key: "../../etc/passwd"},
	} {
		if s.Key == "" {
			s.Key = testKey(1)
		}
		if f, err := c.Open(s); err == nil {
			f.Close()
			t.Errorf("%+v accepted", s)
		}
	}
}

// TestSumsThatCannotBeRead: a block whose sum cannot be read just now is not served
// and not fetched again; it is when the sum can be read.
func TestSumsThatCannotBeRead(t *testing.T) {
	const bs = 4096
	data := truth(4 * bs)
	for _, forward := range []bool{false, true} {
		sums := sumsOf(data, bs)
		unread := errors.New("no sums today")
		sums.unread.Store(&unread)
		spec := Spec{Size: int64(len(data)), BlockSize: bs, Blocks: sums, Source: &script{data: data}}
		if forward {
			spec.Source = &forwardScript{script: script{data: data}, points: bs}
		}
		f := mustOpen(t, newCache(t, Options{}), spec)
		if _, err := f.ReadAt(t.Context(), make([]byte, bs), bs); !errors.Is(err, unread) {
			t.Errorf("forward %v: %v", forward, err)
		}
		sums.unread.Store(nil)
		got := make([]byte, bs)
		if _, err := f.ReadAt(t.Context(), got, bs); err != nil || !bytes.Equal(got, data[bs:2*bs]) {
			t.Errorf("forward %v: %v", forward, err)
		}
	}
}
