package store

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// copyCache copies a cache directory, so that it can be hurt or must not be changed.
func copyCache(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "cache")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// presentBlocks maps the present blocks of f to whether they can be read, which they must.
func presentBlocks(t testing.TB, f *File) []int64 {
	t.Helper()
	var all []int64
	for b := f.present.nextPresent(0); b < f.Blocks(); b = f.present.nextPresent(b + 1) {
		wantBlock(t, f, b)
		all = append(all, b)
	}
	return all
}

// L4: whatever part of the journal reached the disk, what it says is true and the rest can be written again.
func TestL4TornJournal(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), SyncEvery: time.Hour})
	f := openFile(t, s, "f", 20*bs, bs)
	ends := map[int64]int{headerSize: 0} // length of the journal: blocks in it
	for _, batch := range [][]int64{{3}, {4, 5, 6, 7, 8, 9}, {0, 19}, {11, 12, 13, 14}} {
		write(t, f, batch...)
		if err := f.flush(); err != nil {
			t.Fatal(err)
		}
	}
	f.Close()
	s.Close()
	journal, err := os.ReadFile(path(s, "f", journalSuffix))
	if err != nil {
		t.Fatal(err)
	}
	blocks := 0
	end, damaged, err := replay(bytes.NewReader(journal), mustHeader(t, journal).salt, headerSize, int64(len(journal)), func([]record) {})
	if end != int64(len(journal)) || damaged || err != nil {
		t.Fatal(end, damaged, err)
	}
	for at := int64(headerSize); at < end; {
		r, n, _ := parseRecord(mustHeader(t, journal).salt, journal[at:])
		if at += int64(n); r.kind == kindBlocks {
			blocks += max(1, len(r.payload)/4)
		}
		ends[at] = blocks
	}
	if blocks != 13 {
		t.Fatalf("%d blocks in the journal", blocks)
	}
	lengths := slices.Sorted(maps.Keys(ends))
	dir := copyCache(t, s.opt.Dir)
	name := filepath.Join(dir, "files", string(key("f"))+journalSuffix)
	dataName := filepath.Join(dir, "files", string(key("f"))+dataSuffix)
	data, err := os.ReadFile(dataName)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(journal); cut++ {
		for _, tail := range [][]byte{nil, make([]byte, 40)} { // a power cut can leave zeros
			if tail != nil && cut%5 != 0 {
				continue
			}
			torn := append(journal[:cut:cut], tail...)
			same := 0 // the bytes that are as they should be, be it by chance
			for same < min(len(torn), len(journal)) && torn[same] == journal[same] {
				same++
			}
			os.WriteFile(name, torn, 0o600)
			os.WriteFile(dataName, data, 0o600)
			s, err := Open(Options{Dir: dir, SyncEvery: time.Hour})
			if err != nil {
				t.Fatal(err)
			}
			f := openFile(t, s, "f", 20*bs, bs)
			want := 0
			for _, l := range lengths {
				if l <= int64(same) {
					want = ends[l]
				}
			}
			if got := presentBlocks(t, f); len(got) != want {
				t.Fatalf("cut at %d: %d blocks, want %d", cut, len(got), want)
			}
			write(t, f, 16)
			f.Close()
			f = openFile(t, s, "f", Unknown, bs)
			if got := presentBlocks(t, f); len(got) != want+1 || f.Size() != 20*bs {
				t.Fatalf("cut at %d: after a further block %v", cut, got)
			}
			f.Close()
			s.Close()
		}
	}
}

func mustHeader(t testing.TB, journal []byte) header {
	t.Helper()
	h, err := readHeader(bytes.NewReader(journal), key("f"))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// L1: a flipped bit anywhere in the journal costs at most the record it is in, and the word "verified".
func TestL1FlippedBitInJournal(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), SyncEvery: time.Hour})
	f := openFile(t, s, "f", 20*bs, bs)
	for _, batch := range [][]int64{{3, 1}, {4, 5, 6, 7, 8}, {0, 2, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19}} {
		write(t, f, batch...)
		f.flush()
	}
	if err := f.SetState(Verified, "sha256"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	journal, _ := os.ReadFile(path(s, "f", journalSuffix))
	dir := copyCache(t, s.opt.Dir)
	name := filepath.Join(dir, "files", string(key("f"))+journalSuffix)
	data, _ := os.ReadFile(filepath.Join(dir, "files", string(key("f"))+dataSuffix))
	for i := range journal {
		hurt := slices.Clone(journal)
		hurt[i] ^= 1 << (i % 8)
		os.WriteFile(name, hurt, 0o600)
		os.WriteFile(filepath.Join(dir, "files", string(key("f"))+dataSuffix), data, 0o600)
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		f := openFile(t, s, "f", 20*bs, bs)
		n := len(presentBlocks(t, f))
		if i < headerSize && n != 0 || i >= headerSize && n < 8 {
			t.Errorf("bit of byte %d: %d blocks left", i, n)
		}
		if f.State() == Verified {
			t.Errorf("bit of byte %d: still verified, %d blocks", i, n)
		}
		f.Close()
		f = openFile(t, s, "f", 20*bs, bs)
		if m := len(presentBlocks(t, f)); m != n || f.j.damaged {
			t.Errorf("bit of byte %d: %d blocks, then %d; damaged %v", i, n, m, f.j.damaged)
		}
		s.Close()
	}
}

func TestL5NewerJournal(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	f := openFile(t, s, "f", bs, bs)
	f.Close()
	h := header{key: key("f"), blockSize: bs, salt: 5}.encode()
	h[7] = '2'
	sum := checksum(h[:60])
	h[60], h[61], h[62], h[63] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
	os.WriteFile(path(s, "f", journalSuffix), h, 0o600)
	if _, err := s.File(key("f"), bs, bs); err == nil {
		t.Fatal("opened a journal of the future")
	}
	if b, _ := os.ReadFile(path(s, "f", journalSuffix)); !bytes.Equal(b, h) {
		t.Error("and changed it")
	}
}

func TestMissingFiles(t *testing.T) {
	t.Parallel()
	for _, suffix := range []string{dataSuffix, journalSuffix, lockSuffix} {
		s := openStore(t, Options{Dir: t.TempDir()})
		f := openFile(t, s, "f", 2*bs, bs)
		write(t, f, 0)
		f.Close()
		os.Remove(path(s, "f", suffix))
		f = openFile(t, s, "f", 2*bs, bs)
		if f.Has(0) != (suffix == lockSuffix) {
			t.Errorf("without %s: has %v", suffix, f.Has(0))
		}
		write(t, f, 0, 1)
		wantBlock(t, f, 0)
	}
}

// A journal does not grow without bound, and a rewritten one says the same.
func TestCompaction(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), SyncEvery: time.Hour})
	const blocks = 4000
	f := openFile(t, s, "f", blocks*bs, bs)
	other := openStore(t, Options{Dir: s.opt.Dir, SyncEvery: time.Hour})
	g := openFile(t, other, "f", blocks*bs, bs)
	var drops int
	for round := range 12 {
		// Every other block, so that each takes a slot; dropped and written again.
		var buf []byte
		var rs []record
		for b := int64(0); b < blocks; b += 2 {
			r := record{kind: kindBlocks, pos: b, value: uint32(b) + uint32(round)}
			rs = append(rs, r)
			buf = appendRecord(buf, f.j.h.salt, r)
			drops++
		}
		done, err := f.j.begin()
		if err != nil {
			t.Fatal(err)
		}
		f.present.applyAll(rs)
		if err := f.j.append(buf); err != nil {
			t.Fatal(err)
		}
		done()
		write(t, f, 1) // makes a flush
		f.Drop(1)
		write(t, f, 1)
		if err := f.flush(); err != nil {
			t.Fatal(err)
		}
	}
	fi, err := os.Stat(path(s, "f", journalSuffix))
	if err != nil {
		t.Fatal(err)
	}
	if fi.Size() > minCompact || int64(drops)*slotSize <= minCompact {
		t.Errorf("journal of %d bytes after %d records", fi.Size(), drops)
	}
	g.j.refresh() // follows the renamed journal
	wantBlock(t, g, 1)
	if n, _ := g.Present(); n != blocks/2+1 {
		t.Errorf("%d blocks in the other process", n)
	}
	if sum, _, _ := g.present.mapping.get(2); sum != 2+11 {
		t.Errorf("checksum %d", sum)
	}
	write(t, g, 3)
	if err := g.flush(); err != nil {
		t.Fatal(err)
	}
	f.j.refresh()
	wantBlock(t, f, 3)
}

var update = flag.Bool("update", false, "write the golden cache of the current version")

// TestGolden opens a cache that version 1 wrote. It must open for ever: never rewrite testdata/v1; a later version gets a
// directory of its own.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", "v1")
	zero := make([]byte, bs)
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		s := openStore(t, Options{Dir: golden})
		f := openFile(t, s, "f", 9*bs+100, bs)
		write(t, f, 0, 1, 2, 3, 4, 6, 9)
		f.WriteBlock(5, zero)
		f.SetState(Unverified, "no sums")
		write(t, f, 8)
		f.flush()
		f.Drop(6)
		g := openFile(t, s, "g", 2*bs, bs)
		write(t, g, 0, 1)
		g.SetState(Verified, "sha256")
		openFile(t, s, "h", Unknown, 2*bs)
		if err := s.PutDoc("feed", "http://example.org/vmcast.xml", []byte("<rss/>")); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
	s := openStore(t, Options{Dir: copyCache(t, golden)})
	f := openFile(t, s, "f", 9*bs+100, bs)
	if got := fmt.Sprintln(f.present.nextPresent(0), f.NextMissing(0), f.present.nextPresent(6), f.present.nextPresent(9), f.State(), f.Note()); got != "0 6 8 9 unverified no sums\n" {
		t.Error(got)
	}
	for _, b := range []int64{0, 1, 2, 3, 4, 8, 9} {
		wantBlock(t, f, b)
	}
	if n, err := f.ReadBlock(5, bytes.Clone(zero)); n != bs || err != nil {
		t.Error(n, err)
	}
	wantAbsent(t, f, 6)
	g := openFile(t, s, "g", 2*bs, bs)
	if g.State() != Verified || g.Data() == nil {
		t.Error(g.State())
	}
	if h := openFile(t, s, "h", Unknown, 2*bs); h.Size() != Unknown {
		t.Error(h.Size())
	}
	if d, err := s.GetDoc("feed", "http://example.org/vmcast.xml"); string(d) != "<rss/>" {
		t.Error(d, err)
	}
	if n := s.Stats().Damaged; n != 0 {
		t.Error("damaged blocks:", n)
	}
}

// TestRestart opens 100 GB of cached blocks, in the longest journal that is not rewritten: a record for every block.
func TestRestart(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread() // whose time is measured, not that of the tests beside this one
	defer runtime.UnlockOSThread()
	s := openStore(t, Options{Dir: t.TempDir()})
	const size, blockSize = 100_000_000_000, 64 << 10
	f := openFile(t, s, "f", size, blockSize)
	f.Close()
	h := header{key: key("f"), blockSize: blockSize, salt: 1}
	buf := appendRecord(h.encode(), h.salt, record{kind: kindSize, pos: size})
	order := rand.Perm(int((size + blockSize - 1) / blockSize))
	began := cpuTime(t)
	for _, b := range order {
		buf = appendRecord(buf, h.salt, record{kind: kindBlocks, pos: int64(b), value: uint32(b)})
	}
	if err := os.WriteFile(path(s, "f", journalSuffix), buf, 0o600); err != nil {
		t.Fatal(err)
	}
	written := cpuTime(t) - began
	for _, journal := range []string{"random", "rewritten"} {
		began := cpuTime(t)
		f = openFile(t, s, "f", size, blockSize)
		took := cpuTime(t) - began
		if n, bytes := f.Present(); bytes != size {
			t.Errorf("%d blocks, %d bytes", n, bytes)
		}
		t.Logf("%s journal: opened in %v; its records were made in %v", journal, took, written)
		if took > 8*written {
			t.Errorf("%s journal took %v of the processor, its records %v", journal, took, written)
		}
		f.Close()
	}
}

func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Opening does not depend on the size of the image.
func TestHugeImage(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	f := openFile(t, s, "f", 2<<40, 64<<10)
	last := f.Blocks() - 1
	write(t, f, last, 0)
	wantBlock(t, f, last)
	if b := f.present.nextPresent(1); b != last {
		t.Errorf("next present %d", b)
	}
	if err := f.WriteZeros(1, last-1); err != nil {
		t.Fatal(err)
	}
	if b := f.NextMissing(0); b != f.Blocks() {
		t.Errorf("next missing %d", b)
	}
	f.Close()
	if fi, err := os.Stat(path(s, "f", journalSuffix)); err != nil || fi.Size() > 32<<10 {
		t.Errorf("journal: %v, %v", fi.Size(), err)
	}
	f = openFile(t, s, "f", 2<<40, 64<<10)
	if n, bytes := f.Present(); n != last+1 || bytes != 2<<40 {
		t.Errorf("%d blocks, %d bytes", n, bytes)
	}
}

// failingReader stands for a disk that cannot read its journal.
type failingReader struct{}

func (failingReader) ReadAt([]byte, int64) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestReplayReadError(t *testing.T) {
	t.Parallel()
	if _, _, err := replay(failingReader{}, 1, 0, 100, func([]record) {}); err == nil {
		t.Error("no error")
	}
}
