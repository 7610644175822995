package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
)

const (
	imageSize = 1 << 30
	// pageRun is the unit in which the kind of content changes.
	pageRun = 16 << 10
)

// makeImage writes the disk image that everything is measured on, unless a
// file of its size is there already. It is a file system's mixture: of runs of
// 16 KiB to 1 MiB, 30 % are zeros, 50 % compress like programs (gzip: about
// 40 %), 20 % not at all. The content depends on nothing but this code.
func makeImage(path string) error {
	if info, err := os.Stat(path); err == nil && info.Size() == imageSize {
		return nil
	}
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	defer f.Close()
	const chunk = 8 << 20
	p := make([]byte, chunk)
	for off := int64(0); off < imageSize; off += chunk {
		fillChunk(p, uint64(off/chunk))
		if _, err := f.Write(p); err != nil {
			return fmt.Errorf("write the image: %w", err)
		}
	}
	return errors.Join(f.Close(), os.Rename(path+".new", path))
}

func fillChunk(p []byte, seed uint64) {
	rng := rand.NewPCG(seed, 0x76_6d_63_61_73_74)
	for len(p) > 0 {
		kind := rng.Uint64() % 10
		run := p[:min(len(p), pageRun<<(rng.Uint64()%7))]
		p = p[len(run):]
		switch {
		case kind < 3:
			clear(run)
		case kind < 8:
			program(run, rng)
		default:
			for len(run) >= 8 {
				binary.LittleEndian.PutUint64(run, rng.Uint64())
				run = run[8:]
			}
		}
	}
}

// program fills p with something that compresses about as machine code and
// text do: phrases of a small vocabulary, some frequent, with noise between.
func program(p []byte, rng *rand.PCG) {
	const vocabulary, longest = 128, 16
	words := make([]byte, vocabulary*longest)
	for i := 0; i < len(words); i += 8 {
		binary.LittleEndian.PutUint64(words[i:], rng.Uint64())
	}
	for len(p) > 0 {
		r := rng.Uint64()
		which := min(r%vocabulary, r>>8%vocabulary)
		n := copy(p, words[which*longest:][:4+(r>>16)%(longest-4)])
		p = p[n:]
		if (r>>32)%2 == 0 && len(p) > 0 {
			p[0] = byte(r >> 40)
			p = p[1:]
		}
	}
}
