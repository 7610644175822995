package xvm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// tarWant is what a hostile archive must come to. kind nil: it is walked; members and hidden are then name lists.
type tarWant struct {
	members   string // names, joined by spaces
	hidden    int
	truncated string // part of the reason
	kind      error
	reason    string // part of it
}

func tarExpect(t *testing.T, archive []byte, lim Limits, want tarWant) *Index {
	t.Helper()
	x, err := tarWalkBytes(t, archive, lim)
	if want.kind != nil {
		var tarErr *TarError
		if !errors.Is(err, want.kind) || !errors.As(err, &tarErr) || !strings.Contains(err.Error(), want.reason) {
			t.Fatalf("got %v (index %+v), want %v: %s", err, x, want.kind, want.reason)
		}
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range x.Members {
		names = append(names, m.Name)
	}
	if got := strings.Join(names, " "); got != want.members || len(x.Hidden) != want.hidden {
		t.Fatalf("got %q, hidden %v; want %q and %d hidden", got, x.Hidden, want.members, want.hidden)
	}
	if (x.Truncated == "") != (want.truncated == "") || !strings.Contains(x.Truncated, want.truncated) {
		t.Fatalf("truncated is %q, want %q", x.Truncated, want.truncated)
	}
	return x
}

func TestT1UnsafeNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		"../x", "..", "a/../../b", "a/../b", "a/..", "./../x", "/../x", "//etc/x", "a//b", "a/./b", `a\b`, `..\x`, `C:\x`, "c:x", "C:/x",
		"-rf", "a/-x", "disk,format=qcow2", "esc\x1b[2J", "nl\nx", "\x9b1m", "bidi\u202etxt", "zero\u200bwidth", "\xff\xfe", "nb\u00a0sp",
	} {
		m := new(tarMaker)
		tarExpect(t, m.file("ok", "1").file(name, "2").file("ok2", "3").end(), Limits{}, tarWant{members: "ok ok2", hidden: 1})
		m = new(tarMaker)
		tarExpect(t, m.pax('x', "path", name).file("y", "2").file("ok", "1").end(), Limits{}, tarWant{members: "ok", hidden: 1})
	}
	for stored, want := range map[string]string{"./a": "a", "/a/b": "a/b", "././a": "a", "/./a": "a", "Ref:4/0001": "Ref:4/0001", "a.b/..c": "a.b/..c"} {
		tarExpect(t, new(tarMaker).file(stored, "1").end(), Limits{}, tarWant{members: want})
	}
}

func TestT2SymbolicLinks(t *testing.T) {
	t.Parallel()
	m := new(tarMaker)
	m.header('2', "shadow", 0, tarPut(157, "/etc/shadow")).header('2', "loop", 0, tarPut(157, "loop"))
	m.header('2', "dir", 0, tarPut(157, "/etc")).file("dir/passwd", "through").file("dir/sub/x", "through").file("ok", "1")
	tarExpect(t, m.end(), Limits{}, tarWant{members: "ok", hidden: 5})

	m = new(tarMaker)
	m.file("dir/passwd", "1").header('2', "dir", 0, tarPut(157, "/etc"))
	tarExpect(t, m.end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "directory and something else"})
}

func TestT3HardLinks(t *testing.T) {
	t.Parallel()
	m := new(tarMaker)
	m.file("./a", "content").header('1', "b", 0, tarPut(157, "a")).header('1', "c", 0, tarPut(157, "./b"))
	m.header('1', "absent", 0, tarPut(157, "nowhere")).header('1', "self", 0, tarPut(157, "self")).header('1', "later", 0, tarPut(157, "z"))
	m.header('1', "up", 0, tarPut(157, "../a")).header('2', "soft", 0, tarPut(157, "a")).header('1', "tosoft", 0, tarPut(157, "soft")).file("z", "")
	x := tarExpect(t, m.end(), Limits{}, tarWant{members: "a b c z", hidden: 6})
	if b := x.Members[1]; b.Link != "a" || b.Offset != x.Members[0].Offset || b.Size != 7 {
		t.Errorf("link: %+v", b)
	}
	m = new(tarMaker)
	m.file("a", "x").header('1', "b", 5, tarPut(157, "a")).body("hello")
	tarExpect(t, m.end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "content"})
}

func TestT4DevicesAndModes(t *testing.T) {
	t.Parallel()
	m := new(tarMaker)
	m.header('3', "chr", 0).header('4', "blk", 0).header('6', "fifo", 0).header('s', "sock", 0).file("ok", "1", tarPut(100, "0006777\x00"))
	x := tarExpect(t, m.end(), Limits{}, tarWant{members: "ok", hidden: 4})
	if x.Members[0].Mode != 0o444 {
		t.Errorf("mode %o", x.Members[0].Mode)
	}
	m = new(tarMaker)
	tarExpect(t, m.header('3', "chr", 512).body("x").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "content"})
}

func TestT5Duplicates(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", tarAgainMax+1)
	tarExpect(t, new(tarMaker).file("a", "1").file("b", "2").file("./a", "1").file("c", "3").file("a", "1").end(), Limits{}, tarWant{members: "a b c", hidden: 2})
	tarExpect(t, new(tarMaker).file("a", "").file("a", "").end(), Limits{}, tarWant{members: "a", hidden: 1})
	tarExpect(t, new(tarMaker).file("a", big[1:]).file("a", big[1:]).end(), Limits{}, tarWant{members: "a", hidden: 1})
	tarExpect(t, new(tarMaker).file("a", big).file("a", big).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	tarExpect(t, new(tarMaker).file("a", "1").file("a", "11").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	for _, second := range []string{"a", "./a", "/a", "././a", ".//a"} {
		tarExpect(t, new(tarMaker).file("a", "1").file(second, "2").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	}
	tarExpect(t, new(tarMaker).file("a/b", "1").file("a//b", "2").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	tarExpect(t, new(tarMaker).file("a/b", "1").file("a/./b", "2").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	tarExpect(t, new(tarMaker).file("a", "1").header('2', "a", 0, tarPut(157, "b")).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	tarExpect(t, new(tarMaker).header('Z', "a", 0).file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
	tarExpect(t, new(tarMaker).header('5', "d/", 0).file("d/a", "1").header('5', "d", 0).header('5', "./", 0).end(), Limits{}, tarWant{members: "d/a"})
	tarExpect(t, new(tarMaker).file("Disk.img", "1").file("disk.IMG", "2").end(), Limits{}, tarWant{members: "Disk.img", hidden: 1})
	tarExpect(t, new(tarMaker).file("\u00fc", "1").file("u\u0308", "2").end(), Limits{}, tarWant{members: "\u00fc", hidden: 1})
}

func TestT6PaxSizeWins(t *testing.T) {
	t.Parallel()
	inner := new(tarMaker).file("smuggled", "evil").Bytes()
	m := new(tarMaker)
	m.pax('x', "size", fmt.Sprint(len(inner))).header('0', "outer", 0).body(string(inner)).file("ok", "1")
	x := tarExpect(t, m.end(), Limits{}, tarWant{members: "outer ok"})
	if x.Members[0].Size != int64(len(inner)) {
		t.Errorf("outer: %+v", x.Members[0])
	}
	// The other way round: the header claims bytes that the extended header says are not there.
	m = new(tarMaker)
	m.pax('x', "size", "0").header('0', "outer", int64(len(inner))).file("next", "1")
	tarExpect(t, m.end(), Limits{}, tarWant{members: "outer next"})
	for _, size := range []string{"-1", "+5", " 5", "5 ", "0x5", "", "1e3", "9223372036854775808"} {
		tarExpect(t, new(tarMaker).pax('x', "size", size).file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "size"})
	}
	tarCompare(t, m.Bytes(), tarViewsIfAny(t, m.Bytes()))
}

// tarViewsIfAny is tarViews where the programs are there.
func tarViewsIfAny(t *testing.T, archive []byte) map[string]tarView {
	tarNeed(t, "tar")
	tarNeed(t, "bsdtar")
	return tarViews(t, archive)
}

func TestT7ExtendedHeaders(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", 120)
	several := tarWant{kind: ErrTarRefused, reason: "several extended headers"}
	gnu := func(m *tarMaker, flag byte, s string) *tarMaker {
		return m.header(flag, "././@LongLink", int64(len(s)+1)).body(s + "\x00")
	}
	tarExpect(t, gnu(new(tarMaker).pax('x', "size", "4"), 'L', long).file("a", "1").end(), Limits{}, several)
	tarExpect(t, gnu(new(tarMaker), 'L', long).pax('x', "path", "b").file("a", "1").end(), Limits{}, several)
	tarExpect(t, gnu(gnu(new(tarMaker), 'L', long), 'L', "other").file("a", "1").end(), Limits{}, several)
	tarExpect(t, new(tarMaker).pax('x', "path", "a").pax('x', "path", "b").file("c", "1").end(), Limits{}, several)
	tarExpect(t, new(tarMaker).pax('x', "path", "a").pax('g', "comment", "b").file("c", "1").end(), Limits{}, several)
	tarExpect(t, gnu(gnu(new(tarMaker), 'K', long), 'L', long).file("a", "1").end(), Limits{}, tarWant{members: long})
	tarExpect(t, gnu(gnu(new(tarMaker).file(long[:90], "1"), 'L', long), 'K', long[:90]).header('1', "x", 0).end(), Limits{}, tarWant{members: long[:90] + " " + long})
	tarExpect(t, gnu(new(tarMaker), 'L', "").file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "empty"})
	// A name that goes on behind its length counts to its NUL for GNU tar. One whose end is that of the block, or where
	// zeros follow, is the same to all.
	tarExpect(t, new(tarMaker).header('L', "././@LongLink", 60).body(long).file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "without an end"})
	tarExpect(t, new(tarMaker).header('K', "././@LongLink", 60).body(long).header('1', "x", 0).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "without an end"})
	tarExpect(t, new(tarMaker).header('L', "././@LongLink", 120).body(long).file("a", "1").end(), Limits{}, tarWant{members: long})
	block := long + "/" + strings.Repeat("m", 200) + "/" + strings.Repeat("n", 190)
	tarExpect(t, new(tarMaker).header('L', "././@LongLink", 512).body(block).file("a", "1").end(), Limits{}, tarWant{members: block})

	for _, body := range []string{"path=x\n", "0 path=x\n", "9 path=x", "99 path=x\n", "8 path=x\n", "11 path=x\n", " 9 path=x\n", "9  path=x\n",
		"+9 path=x\n", "09 path=x\n", "999999999999999999999 path=x\n", "9 pa\x00h=x\n", "5 =x\n", "6 abc\n", "-9 path=x\n", "9 path=x\n\x00", "10 path=\x00y\n", "8 path=\n",
		"9 path=x\n9 path=y\n"} {
		tarExpect(t, new(tarMaker).header('x', "x", int64(len(body))).body(body).file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "extended header"})
	}
	for _, key := range []string{"path", "size", "linkpath", "GNU.sparse.map", "GNU.volume.offset", "SUN.holesdata"} {
		tarExpect(t, new(tarMaker).pax('g', key, "1").file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "global"})
	}
	for _, key := range []string{"SCHILY.realsize", "SUN.holesdata", "GNU.volume.offset", "GNU.sparse.new\x1b"} {
		tarExpect(t, new(tarMaker).pax('x', key, "1").file("a", "1").end(), Limits{}, tarWant{kind: ErrTarRefused})
	}
	x := tarExpect(t, new(tarMaker).pax('g', "comment", "0123", "mtime", "1").pax('x', "mtime", "1234567890.5", "SCHILY.xattr.user.x", "a\x00b", "path", "é").file("a", "1").end(),
		Limits{}, tarWant{members: "é"})
	if x.Members[0].ModTime.Unix() != 1234567890 {
		t.Errorf("time %v", x.Members[0].ModTime)
	}
	tarExpect(t, new(tarMaker).file("a", "1").pax('x', "path", "b").end(), Limits{}, tarWant{members: "a", truncated: "no member after it"})
}

func TestT8HugeHeadersAndSizes(t *testing.T) {
	t.Parallel()
	base256 := func(first byte, rest ...byte) tarField {
		return func(b []byte) {
			clear(b[124:136])
			b[124] = first
			copy(b[136-len(rest):], rest)
		}
	}
	max := bytes.Repeat([]byte{0xff}, 8)
	max[0] = 0x7f
	for _, flag := range []byte("xgLK") {
		tarExpect(t, new(tarMaker).header(flag, "x", 0, base256(0x80, 1, 0, 0, 0, 0)).body("").end(), Limits{}, tarWant{kind: ErrTarLimit, reason: "extended header of 4294967296"})
	}
	tarExpect(t, new(tarMaker).header('0', "a", 0, base256(0x80, max...)).end(), Limits{}, tarWant{kind: ErrTarLimit, reason: "too large"})
	tarExpect(t, new(tarMaker).header('Z', "a", 0, base256(0x80, max...)).end(), Limits{}, tarWant{hidden: 1, truncated: `within member "a"`})
	tarExpect(t, new(tarMaker).header('0', "a", 0, base256(0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "2^63"})
	tarExpect(t, new(tarMaker).header('0', "a", 0, base256(0xff, max...)).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "negative"})
	tarExpect(t, new(tarMaker).header('0', "a", 0, base256(0x80, 1)).body("x").file("b", "2").end(), Limits{}, tarWant{members: "a b"})
	for _, size := range []string{"            ", "-0000000001\x00", "0000000000a\x00", "00000000008\x00", "0x000000001\x00", "1 000000000\x00"} {
		tarExpect(t, new(tarMaker).header('0', "a", 0, tarPut(124, size)).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "size"})
	}
	tarExpect(t, new(tarMaker).header('0', "a", 0, tarPut(124, "          1 ")).body("x").end(), Limits{}, tarWant{members: "a"})
	long := new(tarMaker)
	for i := range 40 {
		s := fmt.Sprint(strings.Repeat("x", 60000), i)
		long.header('L', "l", int64(len(s))).body(s).file("f", "")
	}
	tarExpect(t, long.end(), Limits{HeaderBytes: 1 << 20}, tarWant{kind: ErrTarLimit, reason: "bytes of headers"})
}

func TestT11Truncated(t *testing.T) {
	t.Parallel()
	whole := new(tarMaker).file("a", "first").file("b", strings.Repeat("x", 2000)).end()
	for n := 1; n < len(whole); n += 37 {
		x, err := tarWalkBytes(t, whole[:n], Limits{})
		if n < 512 {
			if !errors.Is(err, ErrNotTar) {
				t.Fatalf("%d bytes: %v", n, err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%d bytes: %v", n, err)
		}
		if n >= 1024 && (len(x.Members) == 0 || x.Members[0].Name != "a") {
			t.Errorf("%d bytes: %+v", n, x)
		}
		if (x.Truncated == "") != (n >= len(whole)-512) { // one zero block is an end
			t.Errorf("%d bytes: truncated %q", n, x.Truncated)
		}
		if n < 1024+512+2000 && len(x.Members) > 1 {
			t.Errorf("%d bytes: shows a member that is cut off", n)
		}
	}
	tarExpect(t, whole[:len(whole)-1024], Limits{}, tarWant{members: "a b", truncated: "no end mark"})
	tarExpect(t, new(tarMaker).file("a", "1").header('0', "b", 1<<32).end(), Limits{}, tarWant{members: "a", hidden: 1, truncated: `within member "b"`})
	tarExpect(t, new(tarMaker).file("a", "1").header('x', "b", 2000).end(), Limits{}, tarWant{members: "a", truncated: "within the extended header"})
	sparse := []string{"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "512"}
	tarExpect(t, new(tarMaker).file("a", "1").pax('x', sparse...).header('0', "b", 1<<20).end(), Limits{}, tarWant{members: "a", hidden: 1, truncated: `within member "b"`})
}

func TestT12Garbage(t *testing.T) {
	t.Parallel()
	m := new(tarMaker).file("a", "1").body("this is no header").file("b", "2")
	tarExpect(t, m.end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "at offset 1024: no valid header"})
	flipped := new(tarMaker).file("a", "1").file("b", "2").end()
	flipped[1024] ^= 1
	tarExpect(t, flipped, Limits{}, tarWant{kind: ErrTarRefused, reason: "no valid header"})
	twice := append(new(tarMaker).file("a", "1").end(), new(tarMaker).file("a", "2").end()...)
	tarExpect(t, twice, Limits{}, tarWant{members: "a"})
	lone := new(tarMaker).file("a", "1").body("\x00").file("b", "2")
	tarExpect(t, lone.end(), Limits{}, tarWant{members: "a", truncated: "lone zero block at offset 1024"})
}

func TestT13ManyTinyMembers(t *testing.T) {
	t.Parallel()
	m := new(tarMaker)
	const n = 10000
	for i := range n {
		m.file(fmt.Sprint("f", i), "x")
	}
	archive := m.end()
	src := &tarBytes{r: bytes.NewReader(archive)}
	x, err := Walk(t.Context(), src, int64(len(archive)), Limits{})
	if err != nil || len(x.Members) != n {
		t.Fatal(err)
	}
	if src.requests > 30 || src.bytes > int64(len(archive)) {
		t.Errorf("%d members took %d requests, %d of %d bytes", n, src.requests, src.bytes, len(archive))
	}
	tarExpect(t, archive, Limits{Members: n - 1}, tarWant{kind: ErrTarLimit, reason: "too many members"})
	tarExpect(t, archive, Limits{Requests: 5}, tarWant{kind: ErrTarLimit, reason: "too many requests"})
}

func TestT14LongNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{strings.Repeat("a/", 10000) + "b", strings.Repeat("n", 256), strings.Repeat("a/", 64) + "b", strings.Repeat(strings.Repeat("x", 250)+"/", 9) + "b"} {
		x := tarExpect(t, new(tarMaker).pax('x', "path", name).file("a", "1").file("ok", "1").end(), Limits{}, tarWant{members: "ok", hidden: 1})
		if len(x.Hidden[0].Name) > 255 {
			t.Error("hidden name is not cut")
		}
	}
	deep := new(tarMaker)
	for i := range 20 {
		deep.pax('x', "path", fmt.Sprint(i, strings.Repeat("/a", 1000))).file("a", "1")
	}
	tarExpect(t, deep.end(), Limits{HeaderBytes: 1 << 20}, tarWant{kind: ErrTarLimit, reason: "bytes of headers"})
	long := strings.Repeat("n", 255)
	tarExpect(t, new(tarMaker).pax('x', "path", long).file("a", "1").end(), Limits{}, tarWant{members: long})
}

func TestT15FileAndDirectory(t *testing.T) {
	t.Parallel()
	for _, m := range []*tarMaker{
		new(tarMaker).file("a", "1").header('5', "a/", 0),
		new(tarMaker).header('5', "a/", 0).file("a", "1"),
		new(tarMaker).file("a/b", "1").file("a", "1"),
		new(tarMaker).file("a", "1").file("./a/b", "1"),
		new(tarMaker).file("a", "1").header('1', "a/b", 0, tarPut(157, "a")),
		new(tarMaker).file("-a", "1").file("-a/b", "1"),
	} {
		tarExpect(t, m.end(), Limits{}, tarWant{kind: ErrTarRefused})
	}
	tarExpect(t, new(tarMaker).header('5', "d", 10).body("smuggled").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "content"})
	tarExpect(t, new(tarMaker).file("d/", "smuggled").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "content"})
	tarExpect(t, new(tarMaker).file("d/", "").file("d/a", "1").end(), Limits{}, tarWant{members: "d/a"})
}

func TestT16NotATar(t *testing.T) {
	t.Parallel()
	disk := make([]byte, 4096)
	copy(disk[510:], "\x55\xaa")
	ext := make([]byte, 4096)
	copy(ext[1080:], "\x53\xef")
	for content, reason := range map[string]string{
		"": "empty", "\x1f\x8b\x08": "gzip", "\xfd7zXZ\x00": "xz", "PK\x03\x04": "zip", "BZh91AY&SY": "bzip2", "\x28\xb5\x2f\xfd": "zstd", "QFI\xfb": "qcow2", "KDMV": "VMDK",
		"<!DOCTYPE html><html>": "web page", "\n <HTML>": "web page", "<?xml version='1.0'?><rss/>": "XML", "<?xml version='1.0'?><html>": "web page", `{"error": 1}`: "JSON",
		"\x04\x22\x4d\x18": "an lz4 file", "\x50\x2a\x4d\x18\x04\x00\x00\x00abcd\x5f\x2a\x4d\x18\x00\x00\x00\x00\x04\x22\x4d\x18": "an lz4 file", "WARC/1.1\r\n": "a WARC archive",
		"MZ\x90\x00": "a program of Windows, perhaps one that unpacks itself", "\x7fELF\x02": "perhaps one that unpacks itself", "LZIP\x01": "an lzip file", "\x1f\x9d\x90": "a compress (.Z) file", "Rar!\x1a\x07\x00": "a rar archive", "7z\xbc\xaf\x27\x1c": "a 7z archive",
		"MSCF\x00\x00\x00\x00": "a cab archive", "070701": "a cpio archive", "\xc7\x71": "a cpio archive", "\xed\xab\xee\xdb": "an rpm package", "!<arch>\ndebian-binary": "an ar archive",
		"\x5d\x00\x00\x80\x00\xff\xff": "an lzma file", "\x5d\x00\x00\x00\x04\xff": "an lzma file", "\x5d\x00\x00\x04\x00\xff": "an lzma file", "\x1f\x1e\x00": "a pack",
		"xar!\x00\x1c\x00\x01": "a xar archive", "MSWIM\x00\x00\x00\xd0": "a WIM archive", "  -lh5-": "an lha archive", "\x60\xea": "an arj archive", "\xff\x06\x00\x00sNaPpY": "a snappy file",
		"\x37\xa4\x30\xec": "a zstd dictionary", "ZOO 2.10 Archive.\x1a\x00\x00\xdc\xa7\xc4\xfd": "a zoo archive", "#!/bin/sh\n": "a script",
		"-----BEGIN PGP MESSAGE-----\n": "an OpenPGP message",
		"hello":                         "5 bytes", strings.Repeat("hello", 1000): "no tar header", strings.Repeat("\x00", 10240): "zeros", string(disk): "boot sector", string(ext): "ext file system",
	} {
		tarExpect(t, []byte(content), Limits{}, tarWant{kind: ErrNotTar, reason: reason})
		if content != "" {
			tarExpect(t, append([]byte(content), bytes.Repeat([]byte("z"), 2048)...), Limits{}, tarWant{kind: ErrNotTar})
		}
	}
}

func TestT17OddTypes(t *testing.T) {
	t.Parallel()
	m := new(tarMaker)
	m.header('V', "label", 0).header('M', "part", 3).body("abc").header('N', "names", 3).body("abc").header('Z', "z", 3).body("abc").header('D', "dump/", 3).body("abc")
	tarExpect(t, m.file("ok", "1").header('7', "contiguous", 1).body("2").end(), Limits{}, tarWant{members: "ok contiguous", hidden: 4})
	for _, m := range []*tarMaker{
		new(tarMaker).header('V', "label", 3).body("abc"), new(tarMaker).header('X', "sun", 3).body("abc"), new(tarMaker).header('A', "acl", 3).body("abc"),
		new(tarMaker).file("a", "1", tarPut(257, "ustar\x20\x00"), tarPut(345, "prefix")), new(tarMaker).file("a", "1", tarGNUMagic, tarPut(345, "prefix")),
		new(tarMaker).file("a", "1", tarGNUMagic, tarPut(386, "1")), new(tarMaker).file("a", "1", tarGNUMagic, tarPut(483, "1")),
		new(tarMaker).file("a", "1", tarPut(508, "tar\x00"), tarPut(345, strings.Repeat("p", 140))),
	} {
		tarExpect(t, m.end(), Limits{}, tarWant{kind: ErrTarRefused})
	}
	tarExpect(t, new(tarMaker).file("a", "1", tarPut(345, "prefix")).end(), Limits{}, tarWant{members: "prefix/a"})
	star := []tarField{tarGNUMagic, tarPut(476, "12130404200\x00"), tarPut(488, "12130627766\x00")}
	tarExpect(t, new(tarMaker).file("a", "1", star...).end(), Limits{}, tarWant{members: "a"})
	for _, wrong := range []tarField{tarPut(386, "1"), tarPut(475, "1"), tarPut(487, "x"), tarPut(488, "9"), tarPut(490, "\x00")} {
		tarExpect(t, new(tarMaker).file("a", "1", append(star[:3:3], wrong)...).end(), Limits{}, tarWant{kind: ErrTarRefused})
	}
}

// T18: the walk shows the root's description and those below it as what they are; which is read, and up to what size,
// is for the caller. Two in the root are duplicates.
func TestT18Descriptions(t *testing.T) {
	t.Parallel()
	tarExpect(t, new(tarMaker).file("xvm.xml", "1").file("sub/xvm.xml", "2").end(), Limits{}, tarWant{members: "xvm.xml sub/xvm.xml"})
	tarExpect(t, new(tarMaker).file("xvm.xml", "1").file("./xvm.xml", "2").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "twice"})
}

func TestTarReadErrors(t *testing.T) {
	t.Parallel()
	archive := tarGo(t, tar.FormatPAX, "a", strings.Repeat("x", 100000), "b", "2")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Walk(ctx, &tarBytes{r: bytes.NewReader(archive)}, int64(len(archive)), Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	_, err := Walk(t.Context(), &tarBytes{r: bytes.NewReader(archive[:50000])}, int64(len(archive)), Limits{})
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrTarRefused) {
		t.Errorf("short source: %v", err)
	}
	// An error within a sparse map is one of reading, too.
	m := new(tarMaker).pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "512").file("a", "4000\n"+strings.Repeat("0\n", 8000))
	_, err = Walk(t.Context(), &tarBytes{r: bytes.NewReader(m.Bytes()[:4096])}, int64(m.Len()), Limits{})
	if !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, ErrTarRefused) {
		t.Errorf("short source in map: %v", err)
	}
}
