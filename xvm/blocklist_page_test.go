package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestOutlineBlockList: read by pages, a list says of each block what it says when it
// is read whole, whatever lines of zeros are between them.
func TestOutlineBlockList(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, end := range []string{"\n", "\r\n"} {
		for _, member := range []string{"", "b.img.gz"} {
			for _, run := range []int{1, 3, 20000} { // lines of zeros in a row, at most
				var text strings.Builder
				line := func(format string, args ...any) { fmt.Fprintf(&text, format+end, args...) }
				length := func() string {
					if member == "" {
						return ""
					}
					return fmt.Sprint(" ", 1+rnd.IntN(5000))
				}
				var blocks []string
				total := 0
				for sums := range 3000 {
					if run < 100 || sums%1000 == 500 {
						for range rnd.IntN(run) {
							n := 1 + rnd.IntN(3)
							total += n
							blocks = append(blocks, fmt.Sprint("zero ", n, length()))
						}
					}
					total++
					blocks = append(blocks, fmt.Sprintf("%064x%s", rnd.Uint64(), length()))
				}
				line("vmcast-blocks 1")
				line("image a.img")
				line("size 0")
				line("block 4096")
				line("blocks 0")
				line("image b.img")
				line("size %d", total*4096)
				line("block 4096")
				if member != "" {
					line("member %s", member)
				}
				line("blocks %d", total)
				for _, b := range blocks {
					line("%s", b)
				}
				line("end")
				whole, err := ParseBlockList(strings.NewReader(text.String()))
				if err != nil {
					t.Fatal(err)
				}
				held := int64(0)
				list, err := OutlineBlockList(strings.NewReader(text.String()), func(n int64) error { held += n; return nil })
				if err != nil {
					t.Fatal(err)
				}
				if most := int64(total)/2 + 8<<10; held <= 0 || held > most {
					t.Errorf("%d blocks take %d bytes", total, held)
				}
				want, got := whole.Image("b.img"), list.Image("b.img")
				var page *ListPage
				number := -1
				for i := int64(-1); i <= int64(total); i++ {
					sum, zero, ok := want.Sum(i)
					if z, k := got.Outline().Known(i); z != zero || k != ok {
						t.Fatalf("block %d: %v %v", i, z, k)
					}
					spot, listed := got.Page(i)
					if listed != (ok && !zero) {
						t.Fatalf("block %d: a page %v", i, listed)
					}
					if !listed {
						continue
					}
					if spot.Len > pageText {
						t.Fatalf("a page of %d bytes", spot.Len)
					}
					if spot.Number != number {
						if page, err = got.ParsePage(spot, []byte(text.String()[spot.Off:][:spot.Len])); err != nil {
							t.Fatal(err)
						}
						number = spot.Number
					}
					s, off, n := got.InPage(page, i)
					woff, wn, _ := want.Place(i)
					if s != sum || off != woff || n != wn {
						t.Fatalf("block %d: %x at %d, %d", i, s, off, n)
					}
				}
				spot, _ := got.Page(int64(total) - 1)
				other := bytes.Repeat([]byte{'0'}, spot.Len)
				if _, err := got.ParsePage(spot, other); !errors.Is(err, errPage) {
					t.Errorf("another text: %v", err)
				}
			}
		}
	}
}

// TestOutlineIsSmall: a list of any kind is read within 14 MiB, and reading it ends when
// there is no room for it.
func TestOutlineIsSmall(t *testing.T) {
	none := errors.New("no room")
	for name, body := range map[string]string{
		"zeros":      fmt.Sprintf("size %d\nblock 4096\nblocks %d\nzero %d\n", MaxListBlocks*4096, MaxListBlocks, MaxListBlocks),
		"zero lines": "size 4096000000\nblock 4096\nblocks 1000000\n" + strings.Repeat("zero 1\n", 1000000),
		"sums":       "size 819200000\nblock 4096\nblocks 200000\n" + strings.Repeat(strings.Repeat("0", 64)+"\n", 200000),
	} {
		text := "vmcast-blocks 1\nimage x\n" + body + "end\n"
		held := int64(0)
		if _, err := OutlineBlockList(strings.NewReader(text), func(n int64) error { held += n; return nil }); err != nil || held > 14<<20 {
			t.Errorf("%s: %d bytes, %v", name, held, err)
		}
		if _, err := OutlineBlockList(strings.NewReader(text), func(int64) error { return none }); !errors.Is(err, none) || errors.Is(err, ErrBlockList) {
			t.Errorf("%s without room: %v", name, err)
		}
	}
}
