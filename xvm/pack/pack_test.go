package pack

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
	"vmcastfs/xvm"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// image is content with text, noise and long runs of zeros.
func image(size int, seed uint64) []byte {
	p := make([]byte, size)
	r := rand.New(rand.NewPCG(seed, 1))
	for i := 0; i < size; i += 64 << 10 {
		q := p[i:min(size, i+64<<10)]
		switch r.IntN(4) {
		case 0, 1:
		case 2:
			for j := range q {
				q[j] = byte(r.Uint32())
			}
		case 3:
			for j := 0; j+32 < len(q); j += 32 {
				copy(q[j:], fmt.Sprintf("line %d of block %d", j, i))
			}
		}
	}
	return p
}

func gzipped(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func signer(t testing.TB) (*xvm.Signer, *xvm.Keyring) {
	t.Helper()
	s, err := xvm.NewSigner("Publisher", "publisher@example.org", testTime)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := xvm.ParseKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, ring
}

func input(name string, content []byte) Input {
	return Input{Name: name, Size: int64(len(content)), Content: bytes.NewReader(content)}
}

const description = `<xvm version="1"><name>test</name><disk file="root.img" target="vda"/></xvm>`

// options are those of a package with a bit of everything.
func options(t testing.TB, s *xvm.Signer) Options {
	o := Options{
		Description: []byte(description), Time: testTime, Compress: true,
		Inputs: []Input{
			input("root.img", image(1<<20+777, 1)),
			input("swap.img.gz", gzipped(t, image(300_000, 2))),
			{Name: "raw.img", Size: 200_000, Content: bytes.NewReader(image(200_000, 3)), Plain: true},
			input("zero.img", make([]byte, 1<<20)),
			input("empty.img", nil),
		},
		Profile: []byte("vmcast-profile 1\nroot.img 0 4096\nraw.img 65536 512\n"),
	}
	if s != nil {
		o.Sign = KeySign(s)
	}
	return o
}

func build(t testing.TB, o Options) []byte {
	t.Helper()
	var b bytes.Buffer
	res, err := Pack(t.Context(), &b, o)
	if err != nil {
		t.Fatal(err)
	}
	if res.Size != int64(b.Len()) {
		t.Errorf("result has %d bytes, the package %d", res.Size, b.Len())
	}
	if len(res.Warnings) > 0 {
		t.Errorf("warnings: %q", res.Warnings)
	}
	return b.Bytes()
}

// Stream makes memory an Archive.
func (m memory) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(m), off, n)), nil
}

func check(t testing.TB, pkg []byte, o CheckOptions) *Report {
	t.Helper()
	r, err := Check(t.Context(), memory(pkg), int64(len(pkg)), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), testkit.Need(t, name), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestOrdinaryToolsAcceptAPackage(t *testing.T) {
	t.Parallel()
	s, _ := signer(t)
	dir := t.TempDir()
	write := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("p.xvm", build(t, options(t, s)))
	want := "xvm.xml manifest.txt mf-signature.asc signature.asc blocks.txt profile.txt " +
		"root.img.gz swap.img.gz raw.img zero.img.gz empty.img"
	if got := strings.Join(strings.Fields(run(t, dir, "tar", "-tf", "p.xvm")), " "); got != want {
		t.Errorf("members are %s, want %s", got, want)
	}
	if got := run(t, dir, "bsdtar", "-tf", "p.xvm"); strings.Join(strings.Fields(got), " ") != want {
		t.Errorf("bsdtar lists %s", got)
	}
	run(t, dir, "tar", "-xf", "p.xvm")
	run(t, dir, "sha1sum", "-c", "manifest.txt")
	for _, sum := range []string{"sha256sum", "sha1sum"} {
		out := run(t, dir, sum, "-c", "manifest.txt")
		if n := strings.Count(out, ": OK"); n < 8 {
			t.Errorf("%s found %d good files:\n%s", sum, n, out)
		}
	}
	run(t, dir, "gunzip", "root.img.gz", "swap.img.gz", "zero.img.gz")
	for name, content := range map[string][]byte{
		"root.img": image(1<<20+777, 1), "swap.img": image(300_000, 2), "raw.img": image(200_000, 3),
		"zero.img": make([]byte, 1<<20), "empty.img": {}, "xvm.xml": []byte(description),
	} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s differs: %v", name, err)
		}
	}
	key, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	write("key.asc", key)
	home := shortHome(t)
	run(t, dir, "gpg", "--homedir", home, "--batch", "--import", "key.asc")
	run(t, dir, "gpg", "--homedir", home, "--batch", "--verify", "mf-signature.asc", "manifest.txt")
	run(t, dir, "gpg", "--homedir", home, "--batch", "--verify", "signature.asc", "xvm.xml")
}

// shortHome is a GnuPG home whose socket names are not too long.
func shortHome(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "gpg-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", dir, "--kill", "all").Run()
		os.RemoveAll(dir)
	})
	return dir
}

func TestSameInputSameBytes(t *testing.T) {
	t.Parallel()
	s, _ := signer(t)
	var packages [][]byte
	for _, workers := range []int{1, 1, 5} {
		o := options(t, s)
		o.Workers = workers
		packages = append(packages, build(t, o))
	}
	if !bytes.Equal(packages[0], packages[1]) {
		t.Error("twice the same gives different packages")
	}
	if !bytes.Equal(packages[0], packages[2]) {
		t.Error("the number of cores changes the package")
	}
	o := options(t, s)
	o.Time = testTime.Add(time.Second)
	if bytes.Equal(packages[0], build(t, o)) {
		t.Error("another time gives the same package")
	}
}

func TestSignatureNotBeforeKey(t *testing.T) {
	t.Parallel()
	s, ring := signer(t)
	o := options(t, nil)
	o.Time = time.Unix(0, 0)
	o.Sign = KeySign(s)
	if r := check(t, build(t, o), CheckOptions{Keyring: ring, RequireSigned: true}); len(r.Faults) > 0 {
		t.Error(r.Faults)
	}
}

func TestLargeMemberIsPAX(t *testing.T) {
	t.Parallel()
	h, err := header("x", 8<<30, testTime)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(h, []byte(" size=8589934592\n")) {
		t.Error("8 GiB do not come with an extended header")
	}
	if h, err = header("x", 8<<30-1, testTime); err != nil || len(h) != 512 {
		t.Errorf("what fits into ustar takes %d bytes of header, %v", len(h), err)
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	one := func(change func(o *Options)) Options {
		o := Options{Description: []byte(description), Time: testTime, Inputs: []Input{input("root.img", []byte("x"))}}
		change(&o)
		return o
	}
	for name, o := range map[string]Options{
		"no image":          one(func(o *Options) { o.Inputs = nil }),
		"no description":    one(func(o *Options) { o.Description = []byte("hello") }),
		"an OVF":            one(func(o *Options) { o.Description = []byte(`<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1"/>`) }),
		"block size 5000":   one(func(o *Options) { o.BlockSize = 5000 }),
		"block size 16 MiB": one(func(o *Options) { o.BlockSize = 16 << 20 }),
		"two of a name":     one(func(o *Options) { o.Inputs = append(o.Inputs, o.Inputs[0]) }),
		"two of a name but for case": one(func(o *Options) {
			o.Inputs = append(o.Inputs, input("ROOT.img", nil))
		}),
		"plain name taken": one(func(o *Options) { o.Inputs = append(o.Inputs, input("root.img.gz", gzipped(t, nil))) }),
		"name of ours":     one(func(o *Options) { o.Inputs[0].Name = "manifest.txt" }),
		"comma":            one(func(o *Options) { o.Inputs[0].Name = "a,b" }),
		"parent":           one(func(o *Options) { o.Inputs[0].Name = "../a" }),
		"shorter":          one(func(o *Options) { o.Inputs[0].Size = 2 }),
		"longer":           one(func(o *Options) { o.Inputs[0].Size = 0 }),
		"damaged gzip":     one(func(o *Options) { o.Inputs = append(o.Inputs, input("b.img.gz", gzipped(t, image(9999, 1))[:20])) }),
		"no gzip":          one(func(o *Options) { o.Inputs = append(o.Inputs, input("b.img.gz", []byte("hello"))) }),
		"profile of another image": one(func(o *Options) {
			o.Profile = []byte("vmcast-profile 1\nb.img 0 1\n")
		}),
		"profile beyond the end": one(func(o *Options) { o.Profile = []byte("vmcast-profile 1\nroot.img 0 2\n") }),
		"no profile":             one(func(o *Options) { o.Profile = []byte("hello") }),
		"signing fails": one(func(o *Options) {
			o.Sign = func(context.Context, []byte, time.Time) ([]byte, error) { return nil, errors.New("no") }
		}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Pack(t.Context(), io.Discard, o); err == nil {
				t.Error("it was packed")
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Pack(ctx, io.Discard, options(t, nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("packing goes on after its end: %v", err)
	}
}

func TestWarnsOfAnAbsentDisk(t *testing.T) {
	t.Parallel()
	o := Options{Description: []byte(description), Time: testTime, Inputs: []Input{input("other.img", []byte("x"))}}
	res, err := Pack(t.Context(), io.Discard, o)
	if err != nil || len(res.Warnings) != 1 || !strings.Contains(res.Warnings[0], "root.img") {
		t.Errorf("%v, %v", res, err)
	}
}
