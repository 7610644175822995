package xvm

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tarView is what a program makes of an archive: content by canonical name. ok says that it found nothing wrong.
type tarView struct {
	files map[string]string
	ok    bool
}

// tarViewGo reads with archive/tar. A file name seen twice counts as something wrong.
func tarViewGo(archive []byte) tarView {
	v := tarView{files: map[string]string{}}
	r := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := r.Next()
		if err == io.EOF {
			v.ok = true
			return v
		}
		if err != nil {
			return v
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
			if h.Size == 0 && strings.HasSuffix(h.Name, "/") {
				continue // a directory to the others
			}
			if h.Size > 64<<20 {
				return v
			}
			content, err := io.ReadAll(r)
			if err != nil {
				return v
			}
			v.files[name] = string(content)
		case tar.TypeLink:
			if c, ok := v.files[strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")]; ok {
				v.files[name] = c
			}
		}
	}
}

// tarViewProgram unpacks with a program into a directory and looks at what is there.
func tarViewProgram(t testing.TB, archive []byte, name string, args ...string) tarView {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.tar")
	out := filepath.Join(dir, "out")
	if err := errors.Join(os.WriteFile(file, archive, 0o600), os.Mkdir(out, 0o700)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), name, append(args, "-xf", file, "-C", out)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	v := tarView{files: map[string]string{}}
	v.ok = cmd.Run() == nil
	err := filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type().IsRegular() {
			info, err := d.Info()
			if err != nil {
				return err
			}
			if info.Size() > 64<<20 {
				return nil
			}
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			rel, _ := filepath.Rel(out, p)
			v.files[filepath.ToSlash(rel)] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

var tarPrograms = [][]string{
	{"tar", "--no-same-owner", "--no-same-permissions", "--mode=u+rw"},
	{"bsdtar", "--no-same-owner", "--no-same-permissions"},
}

// tarCompare checks that an archive is refused, or that every member has the content that each program finds under
// its name. whole: what a satisfied program finds must also be a member, or hidden.
func tarCompare(t testing.TB, archive []byte, views map[string]tarView) *Index {
	t.Helper()
	x, err := tarWalkBytes(t, archive, Limits{})
	if err != nil {
		var tarErr *TarError
		if !errors.As(err, &tarErr) || tarErr.Reason == "" {
			t.Errorf("refused without a reason: %v", err)
		}
		return nil
	}
	r := bytes.NewReader(archive)
	for program, v := range views {
		if program == "bsdtar" && tarStarTimes(archive) {
			continue // it takes a time for the real size
		}
		if !v.ok {
			continue // it refuses the archive as a whole; we show the members in front of the fault
		}
		shown := map[string]bool{}
		for _, m := range x.Members {
			name := path.Join(x.Root, m.Name)
			shown[name] = true
			if m.Size > 64<<20 {
				continue
			}
			want, found := v.files[name]
			if got := tarContent(t, r, m); !found {
				t.Errorf("%s has no %q", program, name)
			} else if string(got) != want {
				t.Errorf("%s has other content of %q: %d bytes, not %d", program, name, len(want), len(got))
			}
		}
		hidden := map[string]bool{}
		for _, h := range x.Hidden {
			clean, _, _ := tarName(h.Name)
			hidden[clean] = true
		}
		if x.Truncated == "" && len(x.Hidden) == 0 {
			for name := range v.files {
				if !shown[name] {
					t.Errorf("%s has %q, we do not", program, name)
				}
			}
		}
	}
	return x
}

// tarStarTimes tells whether a header of GNU's magic has star's times.
func tarStarTimes(archive []byte) bool {
	for b := archive; len(b) >= tarBlockSize; b = b[tarBlockSize:] {
		if h := tarBlock(b[:tarBlockSize]); h.format() == tarGNU && h.starTimes() {
			return true
		}
	}
	return false
}

func tarViews(t testing.TB, archive []byte) map[string]tarView {
	views := map[string]tarView{"Go": tarViewGo(archive)}
	for _, p := range tarPrograms {
		views[p[0]] = tarViewProgram(t, archive, p[0], p[1:]...)
	}
	return views
}

// tarTree makes files that need every feature of the formats; long says how long names may be: 0 for v7, 1 for ustar,
// 2 for the others.
func tarTree(t testing.TB, long int) string {
	t.Helper()
	dir := t.TempDir()
	write := func(name, content string) {
		p := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(p, time.Unix(1e9, 0), time.Unix(1e9, 0)); err != nil {
			t.Fatal(err)
		}
	}
	write("xvm.xml", "<xvm/>")
	write("manifest.txt", strings.Repeat("0123456789abcdef", 100))
	write("empty", "")
	write("sub/block", strings.Repeat("b", 512))
	write("sub/über.img", "unicode")
	if err := os.Link(filepath.Join(dir, "manifest.txt"), filepath.Join(dir, "sub/same.txt")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("xvm.xml", filepath.Join(dir, "soft")); err != nil {
		t.Fatal(err)
	}
	if long > 0 {
		write(strings.Repeat("d", 80)+"/"+strings.Repeat("f", 90), "prefix")
	}
	if long > 1 {
		write(strings.Repeat("e", 120)+"/"+strings.Repeat("g", 150), "long")
	}
	sparse := func(name string, size int64, at ...int64) {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, off := range at {
			if _, err := f.WriteAt(bytes.Repeat([]byte{byte(off>>12) | 1}, 4096), off); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
	}
	sparse("hole.img", 1<<20)
	sparse("head.img", 1<<20, 0)
	sparse("odd.img", 1<<20+777, 8192, 1<<19, 1<<20-4096)
	var many []int64
	for i := range int64(60) { // more than the header and two extension blocks of the old GNU form hold
		many = append(many, i*16384)
	}
	sparse("many.img", 1<<20, many...)
	return dir
}

func TestTarDifferentialGenerated(t *testing.T) {
	tarNeed(t, "tar")
	tarNeed(t, "bsdtar")
	commands := map[string][]string{}
	for _, f := range []string{"v7", "ustar", "gnu", "oldgnu", "posix"} {
		commands["gnu tar "+f] = []string{"tar", "--format=" + f}
	}
	for _, v := range []string{"0.0", "0.1", "1.0"} {
		commands["gnu tar sparse "+v] = []string{"tar", "--format=posix", "--sparse", "--hole-detection=raw", "--sparse-version=" + v}
	}
	commands["gnu tar sparse seek"] = []string{"tar", "--format=posix", "--sparse"}
	commands["gnu tar sparse gnu"] = []string{"tar", "--format=gnu", "--sparse", "--hole-detection=raw"}
	commands["gnu tar sparse oldgnu"] = []string{"tar", "--format=oldgnu", "--sparse", "--hole-detection=raw"}
	commands["gnu tar label"] = []string{"tar", "--format=gnu", "--label=volume"}
	commands["gnu tar posix label"] = []string{"tar", "--format=posix", "--label=volume"}
	commands["gnu tar incremental"] = []string{"tar", "--format=gnu", "--incremental"}
	commands["gnu tar xattrs"] = []string{"tar", "--format=posix", "--xattrs", "--acls"}
	for _, f := range []string{"v7", "ustar", "gnutar", "pax", "paxr"} {
		commands["bsdtar "+f] = []string{"bsdtar", "--format=" + f}
	}
	trees := []string{tarTree(t, 0), tarTree(t, 1), tarTree(t, 2)}
	for name, command := range commands {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := trees[2]
			switch {
			case strings.HasSuffix(name, " v7"):
				dir = trees[0]
			case strings.HasSuffix(name, " ustar"):
				dir = trees[1]
			}
			file := filepath.Join(t.TempDir(), "a.tar")
			cmd := exec.CommandContext(t.Context(), command[0], append(command[1:], "-cf", file, "-C", dir, ".")...)
			cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
			out, err := cmd.CombinedOutput()
			if err != nil && command[0] == "tar" {
				t.Fatalf("%v: %s", err, out)
			}
			archive, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			x := tarCompare(t, archive, tarViews(t, archive))
			if x == nil {
				_, err := tarWalkBytes(t, archive, Limits{})
				t.Fatal(err)
			}
			members := map[string]Member{}
			for _, m := range x.Members {
				members[m.Name] = m
			}
			err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
				if err != nil || !d.Type().IsRegular() {
					return err
				}
				rel, _ := filepath.Rel(dir, p)
				want, err := os.ReadFile(p)
				if m, ok := members[rel]; !ok {
					t.Errorf("%q is missing; hidden: %v", rel, x.Hidden)
				} else if !bytes.Equal(tarContent(t, bytes.NewReader(archive), m), want) {
					t.Errorf("%q has other content than the file", rel)
				} else if m.ModTime.IsZero() || m.Mode != 0o444 {
					t.Errorf("%q: time %v, mode %o", rel, m.ModTime, m.Mode)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(name, "sparse") && members["hole.img"].Stored != 0 {
				t.Errorf("hole.img: %+v", members["hole.img"])
			}
		})
	}
}

// TestTarDifferentialGoTestdata walks the archives that Go's own tests are made of.
func TestTarDifferentialGoTestdata(t *testing.T) {
	tarNeed(t, "tar")
	tarNeed(t, "bsdtar")
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(root)), "src/archive/tar/testdata/*.tar*"))
	if len(files) == 0 {
		t.Skip("no sources of Go here")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			archive, err := tarReadTestdata(file)
			if err != nil {
				t.Fatal(err)
			}
			if x := tarCompare(t, archive, tarViews(t, archive)); x == nil {
				_, err := tarWalkBytes(t, archive, Limits{})
				t.Logf("%v", err)
			} else {
				t.Logf("%d members, hidden %v, %s", len(x.Members), x.Hidden, x.Truncated)
			}
		})
	}
}
