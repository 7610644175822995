package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/xvm"
)

// TestPublisher runs the scripts of the publisher's commands.
func TestPublisher(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"tar", "gzip", "xz", "gpg", "sha1sum", "sha256sum", "xmllint"} {
		testkit.Need(t, tool)
	}
	scripts, err := filepath.Glob("testdata/script/pack_*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	testscript.Run(t, testscript.Params{
		Files: scripts,
		Setup: func(env *testscript.Env) error {
			home, err := os.MkdirTemp("/tmp", "gpg-") // the agent's socket needs a short name
			if err != nil {
				return err
			}
			env.Defer(func() {
				_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
				os.RemoveAll(home)
			})
			env.Setenv("GNUPGHOME", home)
			env.Setenv("XDG_CACHE_HOME", filepath.Join(env.WorkDir, "xdg"))
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"vmcastfs": scriptRun,
			"mkimage":  scriptImage,
			"mkkey":    scriptKey,
			"flip":     scriptFlip,
			"serve":    scriptServe,
			"for-key":  scriptForKey,
		},
	})
}

// TestPackedAppliance mounts the packages that the demo serves.
func TestPackedAppliance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{Packed: true})
	key := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(key, w.app.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.run("verify", "-o", w.options("keyring="+key), w.feed); err != nil {
		t.Errorf("verify: %v\n%s", err, out)
	}
	w.mount("keyring=" + key)
	for name, want := range map[string][]byte{
		appliance.DiskName: w.app.Disk, appliance.DataName: w.app.Data, appliance.SwapName: w.app.Swap,
	} {
		if !bytes.Equal(readAll(t, w.path("latest", name)), want) {
			t.Errorf("%s differs", name)
		}
	}
	for _, sum := range []string{"sha1sum", "sha256sum"} {
		cmd := exec.Command(sum, "-c", "manifest.txt")
		cmd.Dir = w.path("latest")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "data.img.gz: OK") {
			t.Errorf("%s: %v\n%s", sum, err, out)
		}
	}
}

// scriptRun runs the built binary.
func scriptRun(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec(binary, args...)
	if err != nil && !neg {
		ts.Fatalf("vmcastfs %s: %v", strings.Join(args, " "), err)
	}
	if err == nil && neg {
		ts.Fatalf("vmcastfs %s: no failure", strings.Join(args, " "))
	}
	if neg && exitCode(err) != exitFailed {
		ts.Fatalf("vmcastfs %s: exit status %d, want %d", strings.Join(args, " "), exitCode(err), exitFailed)
	}
}

// scriptImage makes an image of text, noise and zeros: mkimage NAME SIZE.
func scriptImage(ts *testscript.TestScript, _ bool, args []string) {
	size, err := strconv.Atoi(args[1])
	ts.Check(err)
	p := make([]byte, size)
	r := rand.New(rand.NewPCG(uint64(size), 1))
	for i := 0; i+4096 <= size; i += 8192 {
		for j := range 3000 {
			p[i+j] = byte(r.Uint32())
		}
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), p, 0o600))
}

// scriptKey makes a key: mkkey SECRET PUBLIC.
func scriptKey(ts *testscript.TestScript, _ bool, args []string) {
	s, err := xvm.NewSigner("Test", "test@example.org", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	ts.Check(err)
	secret, err := s.SecretKey()
	ts.Check(err)
	public, err := s.PublicKey()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), secret, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), public, 0o600))
}

// scriptFlip flips a bit: flip FILE OFFSET.
func scriptFlip(ts *testscript.TestScript, _ bool, args []string) {
	off, err := strconv.Atoi(args[1])
	ts.Check(err)
	p, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	p[off] ^= 1
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), p, 0o600))
}

// scriptServe serves a directory: serve DIR VARIABLE [noranges]. The variable
// becomes the server's URL.
func scriptServe(ts *testscript.TestScript, _ bool, args []string) {
	files := http.FileServer(http.Dir(ts.MkAbs(args[0])))
	if len(args) > 2 && args[2] == "noranges" {
		ranged := files
		files = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			ranged.ServeHTTP(noRanges{w}, r)
		})
	}
	server := httptest.NewServer(files)
	ts.Defer(server.Close)
	ts.Setenv(args[1], server.URL)
}

// noRanges does not say that there could be ranges.
type noRanges struct{ http.ResponseWriter }

func (w noRanges) WriteHeader(code int) {
	w.Header().Del("Accept-Ranges")
	w.ResponseWriter.WriteHeader(code)
}

// scriptForKey signs with keys of these kinds that gpg keeps.
func scriptForKey(ts *testscript.TestScript, _ bool, args []string) {
	for i, kind := range args {
		id := fmt.Sprintf("test%d@example.org", i)
		ts.Check(ts.Exec("gpg", "--batch", "--passphrase", "", "--quick-generate-key", id, kind, "sign", "never"))
		ts.Check(ts.Exec("gpg", "--batch", "--armor", "--output", ts.MkAbs(kind+".asc"), "--export", id))
		ts.Check(ts.Exec(binary, "pack", "-o", kind+".xvm", "--gpg", id, "xvm.xml", "root.img"))
		ts.Check(ts.Exec(binary, "verify", "-o", "keyring="+kind+".asc", kind+".xvm"))
	}
}
