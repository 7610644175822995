package seekable

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What the tools of others write is read as those tools read it: a producer is a command line that compresses its
// standard input. FILE in it stands for a file with the content, for tools that read no pipe.
type producer struct {
	format Format
	args   []string
	slow   bool // only small contents are given to it, and all of them in the long form
}

func producers() (all []producer) {
	add := func(f Format, slow bool, args ...string) { all = append(all, producer{f, args, slow}) }
	for level := 1; level <= 9; level++ {
		add(Gzip, false, "gzip", fmt.Sprint("-", level))
	}
	add(Gzip, false, "gzip", "--rsyncable")
	for _, more := range []string{"-0", "-1", "-6", "-9", "-i", "-H", "-U"} { // -H: no matches, -U: only runs
		add(Gzip, false, "pigz", more, "-b", "128")
	}
	add(Gzip, true, "pigz", "-11", "-I", "1")
	add(Gzip, true, "zopfli", "--i1", "-c", "FILE")
	for _, level := range []string{"-1", "-6", "-9", "-12"} {
		add(Gzip, level == "-12", "libdeflate-gzip", level)
	}
	for _, level := range []string{"-1", "1", "6", "9"} {
		add(Gzip, false, "bgzip", "-l", level)
	}
	for _, level := range []string{"-mx=1", "-mx=5", "-mx=9"} {
		add(Gzip, level == "-mx=9", "7z", "a", "-tgzip", level, "-si", "-so", "-an")
	}
	// zlib's strategies and flushes, which no command line offers: fixed codes, partial, sync and full flushes.
	for _, strategy := range []string{"Z_FIXED", "Z_HUFFMAN_ONLY", "Z_RLE", "Z_FILTERED"} {
		for _, flush := range []string{"Z_NO_FLUSH", "Z_PARTIAL_FLUSH", "Z_SYNC_FLUSH", "Z_FULL_FLUSH"} {
			add(Gzip, false, "python3", "-c", zlibScript, strategy, flush)
		}
	}
	// Members one behind the other, with the padding that dd writes up to its block.
	add(Gzip, false, "bash", "-c", `{ head -c 300001 | gzip -1; gzip -6; } | dd conv=sync bs=64k iflag=fullblock status=none`)
	add(Gzip, false, "bash", "-c", `while head -c 65537 > "$0/part" && [ -s "$0/part" ]; do gzip -1 < "$0/part"; done`, "DIR")

	for _, level := range []string{"-0", "-1", "-6", "-9e"} {
		add(XZ, level == "-9e", "xz", "-T1", level)
	}
	add(XZ, false, "xz", "-1", "-T2", "--block-size=131072")
	add(XZ, false, "xz", "--lzma2=preset=0,dict=64KiB,lc=0,lp=4,pb=1", "--check=sha256", "-T1")
	add(XZ, true, "7z", "a", "-txz", "-mx=1", "-si", "-so", "-an")
	add(XZ, false, "bash", "-c", `head -c 300001 | xz -0; xz -0 --check=crc32`)

	for _, level := range []string{"-1", "-3", "-9", "--fast=5"} {
		add(Zstd, false, "zstd", "-q", level)
	}
	add(Zstd, true, "zstd", "-q", "-19", "--long=24")
	add(Zstd, false, "zstd", "-q", "-1", "--no-check", "-B65536")
	add(Zstd, false, "pzstd", "-q", "-1", "-p", "2")
	add(Zstd, false, "bash", "-c", `head -c 300001 | zstd -q -1; zstd -q -3`)

	add(Bzip2, false, "bzip2", "-1")
	add(Bzip2, false, "bzip2", "-9")
	add(Bzip2, false, "pbzip2", "-c", "-b1")
	add(Bzip2, false, "lbzip2", "-1")
	add(Bzip2, true, "7z", "a", "-tbzip2", "-mx=1", "-si", "-so", "-an")
	return all
}

const zlibScript = `
import sys, zlib
strategy, flush = (getattr(zlib, name) for name in sys.argv[1:])
z = zlib.compressobj(6, zlib.DEFLATED, 31, 8, strategy)
while data := sys.stdin.buffer.read(40009):
    sys.stdout.buffer.write(z.compress(data))
    sys.stdout.buffer.write(z.flush(flush))
sys.stdout.buffer.write(z.flush())
`

// String is its command line, without the text of a script.
func (p producer) String() string {
	return strings.ReplaceAll(strings.Join(p.args, " "), zlibScript, "zlib")
}

// compress runs the producer over plain.
func (p producer) compress(t testing.TB, plain []byte) []byte {
	t.Helper()
	args := append([]string(nil), p.args...)
	for i, a := range args {
		switch a {
		case "DIR":
			args[i] = t.TempDir()
		case "FILE":
			args[i] = filepath.Join(t.TempDir(), "plain")
			if err := os.WriteFile(args[i], plain, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return command(t, plain, args...)
}

// reference is what the format's own tool makes of data.
func reference(t testing.TB, f Format, data []byte) []byte {
	t.Helper()
	return command(t, data, map[Format]string{Gzip: "gzip", XZ: "xz", Zstd: "zstd", Bzip2: "bzip2"}[f], "-dcq")
}

// image is a file system or archive made by a script, which writes it to $1 and finds a directory of real files in $2.
type image struct{ name, script string }

var images = []image{
	{"ext4", `truncate -s $((SIZE * 3 / 2 + 4194304)) $1 && mke2fs -q -t ext4 -d $2 $1`},
	{"xfs", `mkdir -p $1.d && truncate -s 48M $1 && { printf '/\n1 1\nd--755 0 0\n'; cd $2; find . -maxdepth 1 -type f -printf '%f ---644 0 0 '$2'/%f\n'; echo '$'; } > $1.d/proto &&
		TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q --unsupported -p $1.d/proto $1`},
	{"squashfs", `mksquashfs $2 $1 -noappend -quiet -no-progress -processors 1`},
	{"tar", `tar -C $2 -cf $1 .`},
}

// make builds the image of about size bytes of this machine's own programs.
func (i image) make(t testing.TB, size int) []byte {
	t.Helper()
	dir := t.TempDir()
	files := filepath.Join(dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	left := size
	for _, from := range []string{"/usr/bin", "/usr/share/perl", "/usr/lib"} {
		filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || left <= 0 {
				return nil
			}
			info, err := d.Info()
			if err != nil || info.Size() == 0 || info.Size() > int64(size/3) {
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil
			}
			left -= len(b)
			return os.WriteFile(filepath.Join(files, fmt.Sprintf("%d-%s", left&0xffff, filepath.Base(path))), b, 0o644)
		})
	}
	out := filepath.Join(dir, "image")
	c := exec.Command("bash", "-ec", i.script, i.name, out, files)
	c.Env = append(os.Environ(), fmt.Sprint("SIZE=", size), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if b, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", i.name, err, b)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCorpus reads what every tool makes of real file systems: in order, with buffers of many sizes, in random order,
// and from every saved seek point.
//
// The long form takes other contents too: VMCASTFS_TEST_CORPUS names files, separated by colons, say a root file system
// made by debootstrap. Each is compressed by every tool at every level, which takes minutes for each 100 MB.
func TestCorpus(t *testing.T) {
	contents := map[string][]byte{}
	for _, i := range images {
		contents[i.name] = i.make(t, 2<<20)
	}
	long := os.Getenv("VMCASTFS_TEST_CORPUS")
	for _, path := range filepath.SplitList(long) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		contents[path] = b
	}
	for n, p := range producers() {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			k := 0
			for name, plain := range contents {
				// In the short form each tool gets one of the file systems, and all of them get one of each tool.
				if k++; long == "" && lot(name, n)%4 != 0 {
					continue
				}
				if p.slow && long == "" {
					plain = plain[len(plain)/2:][:200_000]
				}
				if long == "" {
					plain = plain[:min(len(plain), 3<<20/scale)]
				}
				checkCorpus(t, name, p.format, p.compress(t, plain), plain)
			}
		})
	}
}

// lot deals contents to tools.
func lot(name string, n int) uint32 {
	h := fnv.New32a()
	fmt.Fprint(h, name, n)
	return h.Sum32()
}

func checkCorpus(t *testing.T, name string, f Format, data, plain []byte) {
	t.Helper()
	o := Options{Every: 64 << 10, PointBytes: 1 << 30}
	r := newReader(t, f, data, o)
	got, err := readFrom(r, 0, -1)
	if err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%s: %v, %s", name, err, firstDifference(got, plain))
		return
	}
	points, _ := r.Points()
	r.Close()

	// Other chunks put their ends elsewhere.
	odd := o
	odd.chunks = chunks{1021, 4099}
	r = newReader(t, f, data, odd)
	if got, err = readFrom(r, 0, -1); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("%s in chunks of %d: %v, %s", name, odd.chunks.min, err, firstDifference(got, plain))
	}
	r.Close()

	for _, o := range []Options{o, odd} {
		r = newReader(t, f, data, o)
		if err := r.Restore(points); err != nil {
			t.Fatal(err)
		}
		places := append([]point(nil), r.x.points...)
		for i, p := range places {
			end := int64(len(plain))
			if i+1 < len(places) {
				end = min(end, places[i+1].out+1) // whose state is compared
			}
			r.closeIdle() // or a decoder before the point would go on
			got, err := readFrom(r, p.out, end-p.out)
			if err != nil || !bytes.Equal(got, plain[p.out:end]) {
				t.Errorf("%s from point %d of %d, at %d: %v, %s", name, i, len(places), p.out, err, firstDifference(got, plain[p.out:end]))
				break
			}
		}
		rng := rand.New(rand.NewPCG(1, 2))
		for range 2 + 8/scale {
			off := rng.Int64N(int64(len(plain)))
			n := min(1+rng.Int64N(100_000), int64(len(plain))-off)
			got, err := readFrom(r, off, n)
			if err != nil || !bytes.Equal(got, plain[off:off+n]) {
				t.Errorf("%s: %d bytes at %d: %v, %s", name, n, off, err, firstDifference(got, plain[off:off+n]))
				break
			}
		}
		r.Close()
	}
}

// TestSmallBuffers reads in chunks and pieces of few bytes, from the beginning and from every point.
func TestSmallBuffers(t *testing.T) {
	plain := append(disk(40_000, 3), images[3].make(t, 200_000)[:40_000]...)
	for _, p := range producers() {
		t.Run(p.String(), func(t *testing.T) {
			t.Parallel()
			data := p.compress(t, plain)
			if got := reference(t, p.format, data); !bytes.Equal(got, plain) {
				t.Fatal("not what was meant")
			}
			for _, by := range []chunks{{1, 1}, {2, 2}, {3, 3}, {7, 7}, {25, 50}} {
				if scale > 2 && (by.min == 2 || by.min == 3) {
					continue
				}
				r := newReader(t, p.format, data, Options{Every: 64 << 10, chunks: by})
				s, err := r.Stream(background, 0)
				if err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(io.MultiReader(io.LimitReader(oneByte{s}, 1000), s))
				s.Close()
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("in chunks of %d: %v, %s", by.min, err, firstDifference(got, plain))
				}
				for _, q := range append([]point(nil), r.x.points...) {
					r.closeIdle()
					if got, err := readFrom(r, q.out, -1); err != nil || !bytes.Equal(got, plain[q.out:]) {
						t.Fatalf("in chunks of %d, from the point at %d: %v, %s", by.min, q.out, err, firstDifference(got, plain[q.out:]))
					}
				}
				r.Close()
			}
		})
	}
}

// oneByte reads one byte at a time.
type oneByte struct{ r io.Reader }

func (o oneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(1, len(p))]) }
