package pack

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// benchSize is that of the image the benchmarks work on.
const benchSize = 1 << 30

// benchImage writes an image of about a third data, as a root partition has it:
// most of it compresses to a half, the rest not at all.
func benchImage(b *testing.B, path string) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, chunk)
	r := rand.New(rand.NewPCG(7, 7))
	block := make([]byte, 64<<10)
	for n := 0; n < benchSize; n += len(block) {
		clear(block)
		switch k := r.IntN(12); {
		case k < 3:
			for i := 0; i < len(block); i += 8 {
				copy(block[i:], fmt.Sprintf("%08x", r.Uint32()))
			}
		case k < 4:
			for i := range block {
				block[i] = byte(r.Uint32())
			}
		}
		if _, err := w.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkPublisher compares with what ordinary tools take for the same work:
//
//	go test -run - -bench Publisher -benchtime 3x ./xvm/pack
func BenchmarkPublisher(b *testing.B) {
	dir := b.TempDir()
	path := filepath.Join(dir, "root.img")
	benchImage(b, path)
	shell := func(b *testing.B, command string) {
		cmd := exec.CommandContext(b.Context(), "sh", "-c", command)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	b.Run("pack", func(b *testing.B) {
		b.SetBytes(benchSize)
		for b.Loop() {
			in, err := os.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			out, err := os.Create(filepath.Join(dir, "p.xvm"))
			if err != nil {
				b.Fatal(err)
			}
			o := Options{Description: []byte(description), Time: testTime, Compress: true, TempDir: dir,
				Inputs: []Input{{Name: "root.img", Size: benchSize, Content: in}}}
			if _, err := Pack(b.Context(), out, o); err != nil {
				b.Fatal(err)
			}
			in.Close()
			if err := out.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("tar-pigz-sha1sum", func(b *testing.B) {
		need(b, "pigz")
		b.SetBytes(benchSize)
		for b.Loop() {
			shell(b, "tar -cf - root.img | pigz | tee p.tgz | sha1sum")
		}
	})
	b.Run("verify", func(b *testing.B) {
		pkg, err := os.ReadFile(filepath.Join(dir, "p.xvm"))
		if err != nil {
			b.Skip("nothing is packed")
		}
		b.SetBytes(benchSize)
		for b.Loop() {
			if r := check(b, pkg, CheckOptions{}); len(r.Faults) > 0 {
				b.Fatal(r.Faults)
			}
		}
	})
	b.Run("tar-pigz-d-sha1sum", func(b *testing.B) {
		need(b, "pigz")
		b.SetBytes(benchSize)
		for b.Loop() {
			shell(b, "tar -xOf p.xvm root.img.gz | tee stored | pigz -dc | sha1sum && sha1sum stored")
		}
	})
}
