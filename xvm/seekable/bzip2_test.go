package seekable

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestBzip2(t *testing.T) {
	t.Parallel()
	runs := []byte{}
	for i := range 2000 / scale {
		runs = append(runs, bytes.Repeat([]byte{byte(i % 3)}, i%300)...)
	}
	all := plains()
	all["runs"] = runs
	for name, plain := range all {
		for _, level := range []string{"-1", "-9"} {
			t.Run(name+level, func(t *testing.T) { sweep(t, Bzip2, command(t, plain, "bzip2", level), plain) })
		}
	}
}

// TestBzip2Streams: several streams, as pbzip2 writes them, and what may follow.
func TestBzip2Streams(t *testing.T) {
	t.Parallel()
	var plain, data []byte
	for i := range 6 {
		b := disk(250_000*i/3/scale, uint64(i))
		plain = append(plain, b...)
		data = append(data, command(t, b, "bzip2", "-1")...)
	}
	sweep(t, Bzip2, data, plain)
	for _, tail := range []string{"\x00", "\x00\x00\x00", "x", "signature", "BZx", "BZh0", "BZh9junk", "BZh", "BZ", "B"} {
		got, err := readFrom(newReader(t, Bzip2, append(bytes.Clone(data), tail...), Options{}), 0, -1)
		cut := strings.HasPrefix("BZh", tail) || tail == "BZh9junk"
		if !bytes.Equal(got, plain) || cut != errors.Is(err, io.ErrUnexpectedEOF) || !cut && err != nil {
			t.Errorf("%q: %v", tail, err)
		}
	}
	got, err := readFrom(newReader(t, Bzip2, append(append(bytes.Clone(data), 'x'), data...), Options{}), 0, -1)
	if !errors.Is(err, ErrCorrupt) || !bytes.Equal(got, plain) {
		t.Error(err)
	}
}

func TestBzip2Damage(t *testing.T) {
	t.Parallel()
	plain := disk(250_000/scale, 3)
	data := command(t, plain, "bzip2", "-1")
	for at := 0; at < len(data); at += 1 + len(data)*scale/60 {
		bad := bytes.Clone(data)
		bad[at] ^= 4
		got, err := readFrom(newReader(t, Bzip2, bad, Options{}), 0, -1)
		if err == nil && !bytes.Equal(got, plain) {
			t.Errorf("flip at %d of %d: no error", at, len(data))
		}
		got, err = readFrom(newReader(t, Bzip2, data[:at], Options{}), 0, -1)
		if !errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(plain, got) {
			t.Errorf("cut at %d: %v after %d", at, err, len(got))
		}
	}
}

func FuzzBzip2(f *testing.F) {
	for _, n := range []int{0, 1, 5000, 150_000} {
		f.Add(command(f, disk(n, 1), "bzip2", "-1"), uint16(n))
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk uint16) {
		want, err := io.ReadAll(io.LimitReader(bzip2.NewReader(bytes.NewReader(data)), 1<<22))
		if err == nil && len(want) < 1<<22 {
			got, err := readFrom(newReader(t, Bzip2, data, Options{chunks: fuzzChunks(chunk)}), 0, -1)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%v, %d bytes; stdlib %d", err, len(got), len(want))
			}
		}
		fuzzReader(t, Bzip2, data, chunk)
	})
}
