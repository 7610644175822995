package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
)

// gnupg is a GnuPG home with keys made for a test.
type gnupg struct {
	t    testing.TB
	home string
}

func newGnuPG(t testing.TB) *gnupg {
	t.Helper()
	testkit.Need(t, "gpg")
	home, err := os.MkdirTemp("", "gpg") // the socket of the agent needs a short name
	if err != nil {
		t.Fatal(err)
	}
	g := &gnupg{t, home}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = g.env()
		_ = cmd.Run()
		os.RemoveAll(home)
	})
	if err := os.WriteFile(filepath.Join(home, "gpg-agent.conf"), []byte("allow-loopback-pinentry\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gnupg) env() []string { return append(os.Environ(), "GNUPGHOME="+g.home) }

// run runs gpg on input and returns its output.
func (g *gnupg) run(input string, args ...string) []byte {
	g.t.Helper()
	cmd := exec.Command("gpg", append([]string{"--yes", "--quiet", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	cmd.Env = g.env()
	cmd.Stdin = strings.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		g.t.Fatalf("gpg %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return out
}

func (g *gnupg) user(name string) string { return "=" + name + " <" + name + "@example.org>" }

// key makes a key for signing.
func (g *gnupg) key(name, algo, expire string, more ...string) {
	g.t.Helper()
	g.run("", append(append([]string{"--batch"}, more...), "--quick-gen-key", name+" <"+name+"@example.org>", algo, "sign", expire)...)
}

func (g *gnupg) fingerprint(name string) string {
	g.t.Helper()
	for line := range strings.Lines(string(g.run("", "--batch", "--with-colons", "--list-keys", g.user(name)))) {
		if f := strings.Split(line, ":"); f[0] == "fpr" {
			return f[9]
		}
	}
	g.t.Fatalf("no key of %s", name)
	return ""
}

// sign signs content; detached and armored unless more says otherwise.
func (g *gnupg) sign(name string, content []byte, more ...string) []byte {
	g.t.Helper()
	args := append([]string{"--batch", "--armor", "-u", g.user(name)}, more...)
	if !strings.Contains(strings.Join(more, " "), "-sign") {
		args = append(args, "--detach-sign")
	}
	return g.run(string(content), args...)
}

// ring exports public keys to a directory, as keyring= takes it.
func (g *gnupg) ring(names ...string) string {
	g.t.Helper()
	dir := g.t.TempDir()
	for i, name := range names {
		args := []string{"--batch", "--export", g.user(name)}
		if i%2 == 0 { // armored and binary files may stand beside each other
			args = append([]string{"--armor"}, args...)
		}
		if err := os.WriteFile(filepath.Join(dir, name+".gpg"), g.run("", args...), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	return dir
}
