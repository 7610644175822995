package seekable

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
)

// machineCode makes bytes in which the filters find much to do: opcodes with near and far targets, close together.
func machineCode(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 3))
	var b []byte
	for len(b) < n {
		switch r.IntN(8) {
		case 0, 1:
			b = append(b, 0xe8|byte(r.IntN(2)))
			b = binary.LittleEndian.AppendUint32(b, uint32(r.Int32N(1<<25)-1<<24))
		case 2:
			b = append(b, 0xe8, 0xe9, 0xe8, 0xff, 0, 0xff, 0xe8)[:len(b)+1+r.IntN(7)]
		case 3:
			b = binary.LittleEndian.AppendUint32(b[:len(b)&^3], 0x94000000|r.Uint32N(1<<26))
		case 4:
			b = binary.LittleEndian.AppendUint32(b[:len(b)&^3], 0x90000000|r.Uint32()&^0x60000000)
		case 5:
			b = append(b, []byte{0, 0xff}[r.IntN(2)])
		default:
			b = append(b, byte(r.Uint32()), 0x48, 0x89)
		}
	}
	return b[:n]
}

// TestXZFilters compares with xz, which writes the files.
func TestXZFilters(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	program = program[len(program)/4:][:1<<19/scale]
	for name, plain := range map[string][]byte{
		"empty": nil, "four": {0xe8, 0, 0, 0}, "five": {0xe8, 1, 0, 0, 0},
		"program": program, "code": machineCode(200_000/scale, 1), "odd code": machineCode(filterBuffer+3, 2), "disk": disk(100_000/scale, 3),
	} {
		for _, filters := range []string{
			"--x86", "--x86=start=4096", "--arm64", "--arm64=start=65536", "--delta=dist=1", "--delta=dist=4", "--delta=dist=256",
			"--x86 --delta=dist=3", "--delta=dist=2 --x86 --arm64",
		} {
			for _, blocks := range []string{"", "--block-size=70001"} {
				args := append([]string{"xz", "-T1"}, strings.Fields(filters+" "+blocks)...)
				data := command(t, plain, append(args, "--lzma2=preset=0")...)
				t.Run(fmt.Sprint(name, args[2:]), func(t *testing.T) {
					for _, by := range []chunks{{}, {1021, 4099}} {
						r := newReader(t, XZ, data, Options{Every: 64 << 10, chunks: by})
						if got, err := readFrom(r, 0, -1); err != nil || !bytes.Equal(got, plain) {
							t.Fatalf("%v, %s", err, firstDifference(got, plain))
						}
						for _, off := range []int64{1, int64(len(plain)) / 2, int64(len(plain)) * 9 / 10} {
							if off >= int64(len(plain)) {
								continue
							}
							if got, err := readFrom(r, off, -1); err != nil || !bytes.Equal(got, plain[off:]) {
								t.Fatalf("from %d: %v, %s", off, err, firstDifference(got, plain[off:]))
							}
						}
					}
				})
			}
		}
	}
}

// TestFilterPieces: a filter does the same however its bytes come.
func TestFilterPieces(t *testing.T) {
	t.Parallel()
	b := machineCode(20_000, 5)
	for id, properties := range map[int64][]byte{3: {6}, 4: nil, 10: nil} {
		whole, err := newFilter(id, properties)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Clone(b)
		whole.undo(want, 0)
		pieces, _ := newFilter(id, properties)
		got := bytes.Clone(b)
		rng := rand.New(rand.NewPCG(1, uint64(id)))
		for at, seen := 0, 0; seen < len(got); {
			seen = min(len(got), seen+1+rng.IntN(9))
			at += pieces.undo(got[at:seen], uint32(at))
		}
		if !bytes.Equal(got, want) {
			t.Errorf("filter %#x: %s", id, firstDifference(got, want))
		}
	}
}

// TestRefusedBeforehand: what cannot be decoded is refused by Size already, by name, and by every stream.
func TestRefusedBeforehand(t *testing.T) {
	t.Parallel()
	plain := machineCode(200_000, 1)
	dictionary := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 5}, 0x29, 0, 0, 'h', 'e', 'l', 'l', 'o')
	for _, c := range []struct {
		format Format
		data   []byte
		err    error
		says   string
		later  bool // than the first bytes tell
	}{
		{XZ, command(t, plain, "xz", "--powerpc", "--lzma2=preset=0"), ErrUnsupported, "xz filter PowerPC", false},
		{XZ, command(t, plain, "xz", "--ia64", "--lzma2=preset=0"), ErrUnsupported, "xz filter IA-64", false},
		{XZ, command(t, plain, "xz", "--arm", "--lzma2=preset=0"), ErrUnsupported, "xz filter ARM", false},
		{XZ, command(t, plain, "xz", "--armthumb", "--lzma2=preset=0"), ErrUnsupported, "xz filter ARM-Thumb", false},
		{XZ, command(t, plain, "xz", "--x86", "--sparc", "--lzma2=preset=0"), ErrUnsupported, "xz filter SPARC", false},
		{XZ, append(command(t, plain, "xz", "-0"), command(t, plain, "xz", "--sparc", "--lzma2=preset=0")...), ErrUnsupported, "xz filter SPARC", true},
		{XZ, command(t, plain, "xz", "--lzma2=preset=0,dict=8MiB"), ErrLimit, "xz dictionary", false},
		{Zstd, dictionary, ErrUnsupported, "zstd dictionary", false},
		{Zstd, command(t, make([]byte, 8<<20), "zstd", "-3", "--long=24"), ErrLimit, "zstd window", false},
	} {
		if err := c.format.Refuse(c.data[:min(len(c.data), HeadMax)]); errors.Is(c.err, ErrUnsupported) && !c.later && !errors.Is(err, c.err) {
			t.Errorf("%s: by its first bytes: %v", c.says, err)
		}
		r := newReader(t, c.format, c.data, Options{MaxWindow: 4 << 20})
		for range 2 {
			var e *Error
			if _, _, err := r.Size(context.Background()); !errors.Is(err, c.err) || !errors.As(err, &e) || e.AtFault() || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", c.says, err)
			}
			if _, err := r.Stream(context.Background(), 0); !errors.Is(err, c.err) {
				t.Errorf("%s: stream: %v", c.says, err)
			}
		}
	}
}
