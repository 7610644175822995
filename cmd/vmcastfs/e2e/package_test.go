package e2e

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cmd/internal/appliance"
)

// TestArchivesOfGNUTar mounts what GNU tar writes, in all its formats, sparse
// and with directories, and has sha1sum check it by the package's manifest.
func TestArchivesOfGNUTar(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	long := "long/" + strings.Repeat("n", 80) + "/" + strings.Repeat("m", 40) + "/disk.img"
	src := t.TempDir()
	content := map[string][]byte{
		"xvm.xml":              []byte("<xvm><name>x</name></xvm>"),
		"disk one.img":         noise(150_000, 1),
		"disks/a.img":          noise(70_001, 2),
		"disks/deep/er/b.img":  noise(512, 3),
		"disks/deep/empty.img": {},
		long:                   noise(100_000, 4),
	}
	var list []member
	for name, data := range content {
		path := filepath.Join(src, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		list = append(list, member{name, data})
	}
	// A sparse file: data, a hole, data, a hole at the end.
	const sparseSize = 3 << 20
	f, err := os.Create(filepath.Join(src, "sparse.img"))
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{0, 1 << 20, 2<<20 + 4096} {
		if _, err := f.WriteAt(noise(8192, byte(off>>20)), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Truncate(sparseSize); err != nil {
		t.Fatal(err)
	}
	f.Close()
	list = append(list, member{"sparse.img", readAll(t, f.Name())})
	if err := os.WriteFile(filepath.Join(src, "manifest.txt"), sha1sums(list...), 0o644); err != nil {
		t.Fatal(err)
	}

	variants := map[string][]string{
		"v7":         {"--format=v7", "--exclude=./long", "."},
		"ustar":      {"--format=ustar", "."},
		"oldgnu":     {"--format=oldgnu", "-S", "."},
		"gnu":        {"--format=gnu", "-S", "xvm.xml", "manifest.txt", "disk one.img", "disks", "long", "sparse.img"},
		"posix-0.0":  {"--format=posix", "-S", "--sparse-version=0.0", "."},
		"posix-0.1":  {"--format=posix", "-S", "--sparse-version=0.1", "."},
		"posix-1.0":  {"--format=posix", "-S", "--sparse-version=1.0", "."},
		"full":       {"--format=gnu", "."},
		"blocking-1": {"--format=gnu", "-b1", "-S", "."},
		"absolute":   {"--format=gnu", "-P", "--transform=s,^\\./,/,", "."},
	}
	for name, args := range variants {
		out := filepath.Join(t.TempDir(), "x.tar")
		if msg, err := command(t, src, "tar", append([]string{"-cf", out}, args...)...); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, msg)
		}
		w.publish(name, readAll(t, out))
	}
	w.mount()
	for name := range variants {
		sectors := func() string {
			blocks, err := command(t, w.path(name), "stat", "-c", "%b", "sparse.img")
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return strings.TrimSpace(blocks)
		}
		isSparse := strings.Contains(strings.Join(variants[name], " "), "-S")
		if n := sectors(); (n == "6144") == isSparse {
			t.Errorf("%s: the sparse file occupies %s sectors before it is read", name, n)
		}
		args := []string{"-c", "--quiet", "--strict", "manifest.txt"}
		if name == "v7" {
			args = append(args, "--ignore-missing")
		}
		if out, err := command(t, w.path(name), "sha1sum", args...); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		out, err := command(t, w.path(name), "find", ".", "-type", "f")
		want := len(content) + 2
		if name == "v7" {
			want--
		}
		if n := strings.Count(out, "\n"); err != nil || n != want {
			t.Errorf("%s: find shows %d files, want %d: %v\n%s", name, n, want, err, out)
		}
		if sectors() == "6144" {
			t.Errorf("%s: the sparse file occupies all of its sectors, though its zeros were read", name)
		}
	}
}

// holey is content that is zeros but for some pieces.
type holey struct {
	size   int64
	pieces map[int64][]byte
}

func (h holey) ReadAt(p []byte, off int64) (int, error) {
	if off >= h.size {
		return 0, io.EOF
	}
	var atEnd error
	if rest := h.size - off; int64(len(p)) > rest {
		p, atEnd = p[:rest], io.EOF
	}
	clear(p)
	for at, piece := range h.pieces {
		if from, to := max(at, off), min(at+int64(len(piece)), off+int64(len(p))); from < to {
			copy(p[from-off:to-off], piece[from-at:to-at])
		}
	}
	return len(p), atEnd
}

// TestImageBehindLargeMember: what lies between costs nothing.
func TestImageBehindLargeMember(t *testing.T) {
	t.Parallel()
	const large = 8 << 30
	disk := noise(1<<20, 1)
	header := func(name string, size int64) []byte {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Format: tar.FormatGNU}); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	big, small := header("large.img", large), header("disk.img", int64(len(disk)))
	front := holey{pieces: map[int64][]byte{0: small, 512: disk, 512 + 1<<20: big}, size: 1024 + 1<<20 + large + 1024}
	behind := holey{pieces: map[int64][]byte{0: big, 512 + large: small, 1024 + large: disk}, size: 1024 + 1<<20 + large + 1024}

	w := bareWorld(t)
	w.opts = []string{"complete=off"}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	w.origin.Put("/front.xvm", front, front.size, at, `"f"`, "")
	w.origin.Put("/behind.xvm", behind, behind.size, at, `"b"`, "")
	w.origin.PutBytes(appliance.FeedPath, rss(item{"front", "front.xvm"}, item{"behind", "behind.xvm"}))
	w.mount()
	cost := make(map[string]origin.Stats)
	for _, release := range []string{"front", "behind"} {
		if info, err := os.Stat(w.path(release, "large.img")); err != nil || info.Size() != large {
			t.Errorf("%s/large.img: %v, %v", release, info, err)
		}
		w.wantFile(disk, release, "disk.img")
		cost[release] = w.origin.Stats("/" + release + ".xvm")
		if st := cost[release]; st.BytesSent > 4<<20 {
			t.Errorf("%s: %d bytes crossed the network for an image of 1 MiB", release, st.BytesSent)
		}
	}
	t.Logf("in front: %+v; behind: %+v", cost["front"], cost["behind"])
	// On a busy machine read-ahead may come a request later; 8 GiB in steps would be hundreds.
	if cost["behind"].Requests > cost["front"].Requests+2 {
		t.Errorf("an image costs %d requests behind a large member, %d in front of it", cost["behind"].Requests, cost["front"].Requests)
	}
}
