package seekable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"

	"github.com/klauspost/compress/zstd"
)

func TestZstd(t *testing.T) {
	t.Parallel()
	for name, plain := range plains() {
		for _, args := range [][]string{{"zstd", "-5", "--check"}, {"zstd", "-3", "--no-check"}, {"zstd", "-3", "--long=27"}} {
			t.Run(fmt.Sprint(name, args[1:]), func(t *testing.T) { sweep(t, Zstd, command(t, plain, args...), plain) })
		}
	}
}

// frames compresses plain in frames of n bytes, with a seek table if asked for.
func frames(t testing.TB, plain []byte, n int, table bool) []byte {
	var data, entries []byte
	for k := 0; len(plain) > 0; k++ {
		b := plain[:min(n, len(plain))]
		plain = plain[len(b):]
		f := command(t, b, "zstd", "-1")
		data = append(data, f...)
		entries = binary.LittleEndian.AppendUint32(entries, uint32(len(f)))
		entries = binary.LittleEndian.AppendUint32(entries, uint32(len(b)))
		if k%3 == 1 {
			skip := append(binary.LittleEndian.AppendUint32(nil, zstdSkip+3), 5, 0, 0, 0, 'h', 'e', 'l', 'l', 'o')
			data = append(data, skip...)
			entries = binary.LittleEndian.AppendUint32(entries, uint32(len(skip)))
			entries = binary.LittleEndian.AppendUint32(entries, 0)
		}
	}
	if !table {
		return data
	}
	count := len(entries) / 8
	entries = binary.LittleEndian.AppendUint32(entries, uint32(count))
	entries = append(entries, 0)
	entries = binary.LittleEndian.AppendUint32(entries, seekFooter)
	data = binary.LittleEndian.AppendUint32(data, seekTableMagic)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(entries)))
	return append(data, entries...)
}

func TestZstdFrames(t *testing.T) {
	t.Parallel()
	plain := disk(3<<20, 3)
	sweep(t, Zstd, frames(t, plain[:1<<20], 200_000, false), plain[:1<<20])
	data := frames(t, plain, 262144, true)
	sweep(t, Zstd, data, plain)
	src := &counting{memory: data}
	r, err := Open(Zstd, src, int64(len(data)), Options{Every: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if n, known, err := r.Size(background); n != int64(len(plain)) || !known || err != nil {
		t.Fatal(n, known, err)
	}
	if n := src.total(); n > HeadMax+1000 {
		t.Errorf("%d bytes read for the size", n)
	}
	if s := r.Start(2<<20 + 5); s != 2<<20 {
		t.Errorf("start %d", s)
	}
	got, err := readFrom(r, 2<<20+5, 1000)
	if err != nil || !bytes.Equal(got, plain[2<<20+5:][:1000]) {
		t.Fatal(err)
	}
	// A table that lies is found out, by those that come through.
	for at := len(data) - 9 - 8*16; at < len(data)-9; at += 8 {
		lie := bytes.Clone(data)
		lie[at+4] ^= 1
		got, err := readFrom(newReader(t, Zstd, lie, Options{Every: 64 << 10}), 0, -1)
		if !errors.Is(err, ErrCorrupt) || !bytes.HasPrefix(plain, got) {
			t.Errorf("false entry at %d: %v after %d bytes", at, err, len(got))
		}
	}
}

// TestZstdSize: what is known of a plain zstd file.
func TestZstdSize(t *testing.T) {
	t.Parallel()
	small := disk(300_000, 2)
	r := newReader(t, Zstd, command(t, small, "zstd", "-1", "--stream-size=300000"), Options{})
	if n, known, err := r.Size(background); n != 300_000 || !known || err != nil {
		t.Error(n, known, err)
	}
	r = newReader(t, Zstd, command(t, small, "zstd", "-1"), Options{}) // a pipe: the size is not in the header
	if _, known, err := r.Size(background); known || err != nil {
		t.Error(known, err)
	}
}

func TestZstdDamage(t *testing.T) {
	t.Parallel()
	plain := disk(40_000, 3)
	data := frames(t, plain, 10_000, false)
	for at := 0; at < len(data); at += 1 + len(data)*scale/500 {
		bad := bytes.Clone(data)
		bad[at] ^= 4
		got, err := readFrom(newReader(t, Zstd, bad, Options{}), 0, -1)
		if err == nil && !bytes.Equal(got, plain) {
			t.Errorf("flip at %d of %d: no error", at, len(data))
		}
		got, err = readFrom(newReader(t, Zstd, data[:at], Options{}), 0, -1)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(plain, got) || err == nil && len(got)%10_000 != 0 {
			t.Errorf("cut at %d: %v after %d", at, err, len(got))
		}
	}
}

func TestC1Zstd(t *testing.T) {
	t.Parallel()
	data := command(t, make([]byte, 8<<20), "zstd", "-3", "--long=24")
	if _, err := readFrom(newReader(t, Zstd, data, Options{MaxWindow: 1 << 20}), 0, -1); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	if _, err := readFrom(newReader(t, Zstd, data, Options{MaxSize: 1 << 20}), 0, -1); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	dict := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x21, 7, 5}, 0x29, 0, 0, 'h', 'e', 'l', 'l', 'o')
	if _, err := readFrom(newReader(t, Zstd, dict, Options{}), 0, -1); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}

// FuzzZstd compares with the library's way of decoding a whole, and has zstd itself decide where they differ.
func FuzzZstd(f *testing.F) {
	whole, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<22), zstd.WithDecoderMaxWindow(1<<20))
	if err != nil {
		f.Fatal(err)
	}
	defer whole.Close()
	for _, n := range []int{1, 5000} {
		f.Add(frames(f, disk(n, 1), 2000, false), uint16(n))
		f.Add(frames(f, disk(n, 1), 2000, true), uint16(n))
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		got, err := readFrom(newReader(t, Zstd, data, Options{MaxSize: 1 << 22, MaxWindow: 1 << 20, chunks: fuzzChunks(chunk)}), 0, -1)
		want, wantErr := whole.DecodeAll(data, nil)
		if err == nil && wantErr == nil && !bytes.Equal(got, want) {
			t.Fatalf("%d bytes, the library %d: %s", len(got), len(want), firstDifference(got, want))
		}
		if (err == nil) != (wantErr == nil) && err != nil && !errors.Is(err, ErrLimit) && !errors.Is(err, ErrUnsupported) && len(data) > 0 {
			cmd := exec.Command("zstd", "-dcq")
			cmd.Stdin = bytes.NewReader(data)
			if tool, toolErr := cmd.Output(); toolErr == nil && !bytes.Equal(got, tool) {
				t.Fatalf("%v, but zstd takes it: %d bytes", err, len(tool))
			}
		}
		fuzzReader(t, Zstd, data, chunk)
	})
}
