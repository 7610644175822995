package xvm

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// tarVirtual is an archive of which only some pieces exist; the rest is zeros.
type tarVirtual struct {
	size   int64
	pieces map[int64][]byte
}

// add appends a header, and a body of n bytes that are not kept in memory.
func (v *tarVirtual) add(header []byte, n int64) *tarVirtual {
	if v.pieces == nil {
		v.pieces = map[int64][]byte{}
	}
	v.pieces[v.size] = bytes.Clone(header)
	v.size = tarNext(v.size+int64(len(header)), n)
	return v
}

func (v *tarVirtual) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	for at, piece := range v.pieces {
		if at < off+int64(len(p)) && off < at+int64(len(piece)) {
			if at >= off {
				copy(p[at-off:], piece)
			} else {
				copy(p, piece[off-at:])
			}
		}
	}
	if off+int64(len(p)) > v.size {
		return int(v.size - off), io.EOF
	}
	return len(p), nil
}

func TestTarImageBehindLargeMember(t *testing.T) {
	t.Parallel()
	const big, image = 9 << 30, 1 << 30
	head := func(name string, size int64) []byte {
		return new(tarMaker).pax('x', "size", fmt.Sprint(size)).header('0', name, 0).Bytes()
	}
	walk := func(order ...string) (requests int, read int64) {
		v := new(tarVirtual).add(new(tarMaker).file("xvm.xml", "<xvm/>").file("manifest.txt", strings.Repeat("x", 900)).Bytes(), 0)
		for _, name := range order {
			v.add(head(name, map[string]int64{"big": big, "image": image}[name]), map[string]int64{"big": big, "image": image}[name])
		}
		v.add(make([]byte, 1024), 0)
		src := &tarBytes{r: v}
		x, err := Walk(t.Context(), src, v.size, Limits{})
		if err != nil || len(x.Members) != 2+len(order) || x.Truncated != "" {
			t.Fatal(err, x)
		}
		return src.requests, src.bytes
	}
	alone, _ := walk("image")
	before, beforeBytes := walk("image", "big")
	behind, behindBytes := walk("big", "image")
	t.Logf("image alone: %d requests; in front of 9 GiB: %d requests, %d bytes; behind: %d requests, %d bytes", alone, before, beforeBytes, behind, behindBytes)
	if behind != before || behindBytes != beforeBytes {
		t.Errorf("an image behind a large member costs %d requests and %d bytes, in front of it %d and %d", behind, behindBytes, before, beforeBytes)
	}
	if before != alone+1 || alone != 2 || beforeBytes > 3*tarWindowMin {
		t.Errorf("a large member costs %d requests, %d bytes in all", before-alone, beforeBytes)
	}
}

func TestTarWindowGrowsAndShrinks(t *testing.T) {
	t.Parallel()
	v := new(tarVirtual)
	for i := range 2000 {
		v.add(new(tarMaker).header('0', fmt.Sprint("small", i), 10<<10).Bytes(), 10<<10)
	}
	small := v.size
	for i := range 20 {
		v.add(new(tarMaker).header('0', fmt.Sprint("large", i), 1<<30).Bytes(), 1<<30)
	}
	v.add(make([]byte, 1024), 0)
	src := &tarBytes{r: v}
	x, err := Walk(t.Context(), src, v.size, Limits{})
	if err != nil || len(x.Members) != 2020 {
		t.Fatal(err)
	}
	t.Logf("%d requests, %d bytes", src.requests, src.bytes)
	if src.requests > 80 || src.bytes > small+tarWindowMax+21*tarWindowMin {
		t.Errorf("%d requests, %d bytes", src.requests, src.bytes)
	}
}

func TestTarNoByteTwice(t *testing.T) {
	t.Parallel()
	var files []string
	for i := range 300 {
		files = append(files, fmt.Sprint(strings.Repeat("n", i), i), strings.Repeat("c", i*7))
	}
	for _, format := range []tar.Format{tar.FormatGNU, tar.FormatPAX} {
		archive := tarGo(t, format, files...)
		src := &tarBytes{r: bytes.NewReader(archive)}
		x, err := Walk(t.Context(), src, int64(len(archive)), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if src.bytes > int64(len(archive)) {
			t.Errorf("read %d of %d bytes", src.bytes, len(archive))
		}
		if len(x.Members)+len(x.Hidden) != 300 {
			t.Errorf("%d members, %d hidden", len(x.Members), len(x.Hidden))
		}
	}
}

func TestTarIndexValidate(t *testing.T) {
	t.Parallel()
	flag, name, size, fields := tarOldSparse("s", 1024, 8192, false, 0, 512, 4096, 512, 8192, 0)
	m := new(tarMaker).file("a", "1").header(flag, name, size, fields).body(strings.Repeat("x", 1024))
	m.header(tarOldSparse("hole", 0, 4096, false, 4096, 0)).header('1', "b", 0, tarPut(157, "s")).file("d/c", "2").file("../x", "")
	good, err := tarWalkBytes(t, m.end(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	reread := func() *Index {
		b, err := json.Marshal(good)
		if err != nil {
			t.Fatal(err)
		}
		x := new(Index)
		if err := json.Unmarshal(b, x); err != nil {
			t.Fatal(err)
		}
		return x
	}
	if x := reread(); !reflect.DeepEqual(x, good) || x.Validate() != nil {
		t.Fatalf("JSON changes it: %+v, %v", x, x.Validate())
	}
	for name, spoil := range map[string]func(x *Index){
		"version":          func(x *Index) { x.Version++ },
		"archive size":     func(x *Index) { x.Size = -1 },
		"archive shrunk":   func(x *Index) { x.Size = 1500 },
		"name":             func(x *Index) { x.Members[0].Name = "../a" },
		"name not stored":  func(x *Index) { x.Members[0].Name = "./a" },
		"name slash":       func(x *Index) { x.Members[0].Name = "a/" },
		"no name":          func(x *Index) { x.Members[0].Name = "" },
		"root":             func(x *Index) { x.Members[0].Name = "." },
		"twice":            func(x *Index) { x.Members[0].Name = "s" },
		"file as parent":   func(x *Index) { x.Members[0].Name = "d" },
		"offset":           func(x *Index) { x.Members[0].Offset = -1 },
		"offset beyond":    func(x *Index) { x.Members[0].Offset = x.Size + 1 },
		"stored beyond":    func(x *Index) { x.Members[0].Stored, x.Members[0].Size = 1<<62, 1<<62 },
		"stored":           func(x *Index) { x.Members[0].Stored, x.Members[0].Size = -1, -1 },
		"size":             func(x *Index) { x.Members[0].Size++ },
		"mode":             func(x *Index) { x.Members[0].Mode = 0o4755 },
		"total":            func(x *Index) { x.Members[1].Size, x.Members[2].Size = 1<<62, 1<<62 },
		"segments lost":    func(x *Index) { x.Members[1].Segments = nil },
		"holes only lost":  func(x *Index) { x.Members[2].Segments = nil },
		"segment archive":  func(x *Index) { x.Members[1].Segments[0].Archive-- },
		"segment overlap":  func(x *Index) { x.Members[1].Segments[1].Logical = 511 },
		"segment beyond":   func(x *Index) { x.Members[1].Segments[1].Logical = 8192 },
		"segment length":   func(x *Index) { x.Members[1].Segments[1].Len = -1 },
		"segment too long": func(x *Index) { x.Members[1].Segments[1].Len++ },
		"segment missing":  func(x *Index) { x.Members[1].Segments = x.Members[1].Segments[:1] },
		"link":             func(x *Index) { x.Members[3].Link = "a" },
		"link to nothing":  func(x *Index) { x.Members[3].Link = "nothing" },
		"link to later":    func(x *Index) { x.Members[3].Link = "d/c" },
		"bad root":         func(x *Index) { x.Root = "../a" },
		"root not stored":  func(x *Index) { x.Root = "a/" },
		"hidden name":      func(x *Index) { x.Hidden[0].Name = "\x1b" },
		"reason":           func(x *Index) { x.Truncated = "a\nb" },
	} {
		x := reread()
		spoil(x)
		if x.Validate() == nil {
			t.Errorf("%s: not noticed", name)
		}
	}
}

func TestTarTimes(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Time{
		"1700000000.123456789": time.Unix(1700000000, 0), "-1": time.Unix(-1, 0), "99999999999999": {}, "-99999999999": {},
	} {
		x, err := tarWalkBytes(t, new(tarMaker).pax('x', "mtime", value).file("a", "", tarPut(136, "xxxxxxxxxxx\x00")).end(), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if got := x.Members[0].ModTime; !got.Equal(want) {
			t.Errorf("mtime %s is %v, want %v", value, got, want)
		}
		if _, err := json.Marshal(x); err != nil {
			t.Error(err)
		}
	}
}

// FuzzWalk checks what Walk promises of any input, and that it takes little memory. Large inputs take long to
// minimise: run it with -fuzzminimizetime=20x.
func FuzzWalk(f *testing.F) {
	for _, seed := range tarSeeds(f) {
		f.Add(seed, true)
	}
	f.Add(tarGo(f, tar.FormatPAX, "a", "1", strings.Repeat("l", 200), "2"), true)
	f.Add(tarGo(f, tar.FormatPAX, "d/xvm.xml", "1", "d/i/a", "2"), true)
	f.Add(new(tarMaker).file("a", "1").header('1', "b", 0, tarPut(157, "a")).end(), false)
	f.Fuzz(func(t *testing.T, archive []byte, mend bool) {
		if mend {
			archive = bytes.Clone(archive)
			for off := 0; off+512 <= len(archive); off += 512 {
				if string(archive[off+257:off+262]) == "ustar" {
					tarMend(archive, []int{off})
				}
			}
		}
		lim := Limits{Members: 1000, HeaderBytes: 1 << 20, Regions: 1000, Requests: 1000}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		x, err := Walk(t.Context(), &tarBytes{r: bytes.NewReader(archive)}, int64(len(archive)), lim)
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20+64*uint64(len(archive)) {
			t.Errorf("%d bytes of archive took %d bytes of memory", len(archive), used)
		}
		if err != nil {
			var tarErr *TarError
			if !errors.As(err, &tarErr) || tarErr.Reason == "" || shownName(err.Error()) != err.Error() && len(err.Error()) < 255 {
				t.Errorf("bad error %q", err)
			}
			return
		}
		if err := x.Validate(); err != nil {
			t.Error(err)
		}
		encoded, err := json.Marshal(x)
		if err != nil {
			t.Fatal(err)
		}
		y := new(Index)
		if err := json.Unmarshal(encoded, y); err != nil || !reflect.DeepEqual(x, y) {
			t.Errorf("JSON changes it: %v", err)
		}
		if v := tarViewGo(archive); v.ok {
			for _, m := range x.Members {
				if m.Size > 64<<20 {
					continue
				}
				if got, want := tarContent(t, bytes.NewReader(archive), m), v.files[path.Join(x.Root, m.Name)]; string(got) != want {
					t.Errorf("Go has other content of %q", m.Name)
				}
			}
		}
	})
}
