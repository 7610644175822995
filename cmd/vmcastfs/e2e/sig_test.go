package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
	home, err := os.MkdirTemp("/tmp", "vmcast-gpg-") // the agent's socket needs a short name
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

const (
	sigPast   = "--faked-system-time=20200101T000000!"
	sigFuture = "--faked-system-time=20600101T000000!"
)

// sigCase is a release, and what its signatures are worth; why is "" for a good
// one.
type sigCase struct {
	name, why string
	manifest  func(content []byte) []byte // the signature over it; nil: there is none
	about     func(content []byte) []byte // the one over xvm.xml; nil: by the first good key
}

// package makes the release of a case: signed members, one image, and one
// that the manifest does not list.
func (c sigCase) pack(t testing.TB, g *gnupg) []byte {
	about := member{"xvm.xml", []byte("<xvm><name>" + c.name + "</name></xvm>\n")}
	disk := member{"root.img", lines(100_000, byte(len(c.name)))}
	manifest := sha1sums(about, disk)
	members := []member{about, {"manifest.txt", manifest}}
	if c.manifest != nil {
		members = append(members, member{"mf-signature.asc", c.manifest(manifest)})
	}
	over := c.about
	if over == nil {
		over = func(p []byte) []byte { return g.sign("rsa", p) }
	}
	if sig := over(about.content); sig != nil {
		members = append(members, member{"signature.asc", sig})
	}
	return pack(t, append(members, disk, member{"extra.img", noise(5000, 1)})...)
}

// TestSignaturesByGnuPG mounts releases signed in every way by GnuPG: what no
// trusted key vouches for is listed and refused, and status, list and log say
// exactly why.
func TestSignaturesByGnuPG(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	g := newGnuPG(t)
	by := func(name string, more ...string) func([]byte) []byte {
		return func(p []byte) []byte { return g.sign(name, p, more...) }
	}
	g.key("rsa", "rsa2048", "never")
	g.key("ecdsa", "nistp256", "never")
	g.key("ed25519", "ed25519", "never")
	g.key("stranger", "ed25519", "never")
	g.run("%no-protection\nKey-Type: DSA\nKey-Length: 2048\nKey-Usage: sign\nName-Real: dsa\nName-Email: dsa@example.org\nExpire-Date: 0\n%commit\n", "--batch", "--gen-key")
	g.run("", "--batch", "--quick-gen-key", "subkey <subkey@example.org>", "rsa2048", "cert", "never")
	g.run("", "--batch", "--quick-add-key", g.fingerprint("subkey"), "ed25519", "sign", "never")
	g.key("expired", "ed25519", "30d", sigPast)
	g.key("revoked", "ed25519", "never", sigPast)
	g.key("lapsed", "ed25519", "never", sigPast)

	other := g.sign("rsa", []byte("another manifest\n"))
	cases := []sigCase{
		{name: "rsa", manifest: by("rsa")},
		{name: "dsa", manifest: by("dsa", "--digest-algo=SHA256")},
		{name: "ecdsa", manifest: by("ecdsa")},
		{name: "ed25519", manifest: by("ed25519")},
		{name: "subkey", manifest: by("subkey")},
		{name: "binary", manifest: by("rsa", "--no-armor")},

		{name: "unsigned", why: "there is no mf-signature.asc"},
		{name: "stranger", why: "not in the keyring", manifest: by("stranger")},
		{name: "mismatch", why: "the signature does not match the file", manifest: func([]byte) []byte { return other }},
		{name: "expired-key", why: "the key has expired", manifest: by("expired", sigPast)},
		{name: "expired-signature", why: "the signature expired on 2020-01-02", manifest: by("lapsed", sigPast, "--default-sig-expire=1d")},
		{name: "revoked-key", why: "the key is revoked", manifest: by("revoked", sigPast)},
		{name: "sha1", why: "the signature uses the broken digest SHA-1", manifest: by("rsa", "--digest-algo=SHA1")},
		{name: "future", why: "dated in the future", manifest: by("ed25519", sigFuture)},
		{name: "inline", why: "no detached signature", manifest: by("rsa", "--sign")},
		{name: "cleartext", why: "a cleartext message", manifest: by("rsa", "--clear-sign")},
		{name: "key-in-package", why: "not in the keyring", manifest: func(p []byte) []byte {
			return append(g.sign("stranger", p), g.run("", "--batch", "--armor", "--export", g.user("stranger"))...)
		}},
		{name: "no-signature-of-xvm-xml", why: "xvm.xml is not signed by a trusted key: there is no signature.asc", manifest: by("rsa"), about: func([]byte) []byte { return nil }},
		{name: "wrong-signature-of-xvm-xml", why: "xvm.xml is not signed by a trusted key", manifest: by("rsa"), about: by("stranger")},
	}
	for _, c := range cases {
		w.publish(c.name, c.pack(t, g))
	}
	// The key is revoked after it has signed.
	g.run("y\n1\n\ny\n", "--command-fd=0", "--status-fd=2", "--armor", "--output", filepath.Join(g.home, "rev.asc"), "--gen-revoke", g.fingerprint("revoked"))
	g.run("", "--batch", "--import", filepath.Join(g.home, "rev.asc"))

	ring := g.ring("rsa", "dsa", "ecdsa", "ed25519", "subkey", "expired", "revoked", "lapsed")
	logPath := filepath.Join(t.TempDir(), "log")
	w.mount("keyring="+ring, "log="+logPath)
	var listed []struct{ Name, State, Error, Signature, Signer string }
	cmd := exec.Command(binary, "list", "--json", "-o", w.options("keyring="+ring), w.feed)
	out, err := cmd.Output()
	if exitCode(err) != exitFailed {
		t.Errorf("list exits with %v", err)
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		t.Fatal(err)
	}
	table, _ := w.run("list", "-o", w.options("keyring="+ring), w.feed)
	for _, c := range cases {
		entries, err := os.ReadDir(w.path(c.name))
		if err != nil || len(entries) < 4 {
			t.Errorf("%s is listed as %v, %v", c.name, entries, err)
		}
		st := w.release(c.name)
		row := struct{ Name, State, Error, Signature, Signer string }{}
		for _, r := range listed {
			if r.Name == c.name {
				row = r
			}
		}
		if c.why == "" {
			w.wantFile(lines(100_000, byte(len(c.name))), c.name, "root.img")
			if st.State != "indexed" || st.Trust.Manifest.State != "good" || row.State != "indexed" || row.Signature != "good" || !strings.Contains(row.Signer, "@example.org>") {
				t.Errorf("%s: %s, %+v; listed %+v", c.name, st.State, st.Trust, row)
			}
			// What the manifest does not list nobody vouches for.
			if _, err := os.ReadFile(w.path(c.name, "extra.img")); !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s: an unlisted file: %v", c.name, err)
			}
			continue
		}
		for _, f := range []string{"root.img", "xvm.xml", "manifest.txt", "extra.img"} {
			if _, err := os.ReadFile(w.path(c.name, f)); !errors.Is(err, syscall.EACCES) {
				t.Errorf("%s/%s: %v", c.name, f, err)
			}
		}
		for where, text := range map[string]string{"status": st.Error, "list --json": row.Error, "list": table, "log": string(readAll(t, logPath))} {
			if !strings.Contains(text, c.why) {
				t.Errorf("%s: %s says %q, want %q", c.name, where, clip(text), c.why)
			}
		}
		if st.State != "refused" || row.State != "refused" {
			t.Errorf("%s is %s in the status, %s in the list", c.name, st.State, row.State)
		}
		if !strings.Contains(string(readAll(t, logPath)), "release="+c.name) {
			t.Errorf("the log does not name %s", c.name)
		}
	}
	if !strings.Contains(string(readAll(t, logPath)), "the signed manifest does not list it") {
		t.Error("the log does not tell why an unlisted file is refused")
	}
	w.umount()

	// Without the demand all of it is served, and the reasons are still told.
	w.mount("keyring="+ring, "sig=ignore")
	w.wantFile(lines(100_000, byte(len("mismatch"))), "mismatch", "root.img")
	if st := w.release("mismatch"); st.State != "indexed" || !strings.Contains(st.Trust.Manifest.Reason, "does not match") {
		t.Errorf("%+v", st)
	}
}

func clip(s string) string { return s[:min(len(s), 300)] }

// TestSigNeedsKeyring: sig=require without a key refuses to mount, and so does
// an empty or broken keyring.
func TestSigNeedsKeyring(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"root.img", lines(1000, 1)}))
	empty := t.TempDir()
	junk := filepath.Join(empty, "junk.asc")
	for name, opts := range map[string]string{"none": "sig=require", "missing": "keyring=/nonexistent"} {
		if out, err := w.run("mount", "-o", w.options(opts), w.feed, w.dir); err == nil {
			t.Errorf("%s: mounted: %s", name, out)
		}
	}
	if err := os.WriteFile(junk, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.run("mount", "-o", w.options("keyring="+junk), w.feed, w.dir); err == nil {
		t.Errorf("mounted with a keyring that holds no key: %s", out)
	}
}

// TestTrustCommand: a release that changes and a feed that goes back raise
// alarms, are refused over restarts and without the cache, and are accepted by
// the operator while the mount runs.
func TestTrustCommand(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	g := newGnuPG(t)
	g.key("rsa", "ed25519", "never")
	ring := g.ring("rsa")
	good := func(seed byte) []byte {
		about, disk := member{"xvm.xml", []byte("<xvm/>")}, member{"root.img", lines(50_000, seed)}
		manifest := sha1sums(about, disk)
		return pack(t, about, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign("rsa", manifest)},
			member{"signature.asc", g.sign("rsa", about.content)}, disk)
	}
	w.publish("one", good(1))
	w.publish("two", good(2))
	logPath := filepath.Join(t.TempDir(), "log")
	opts := []string{"keyring=" + ring, "log=" + logPath}
	state := w.cache + "-state"
	w.mount(opts...)
	w.wantFile(lines(50_000, 1), "one", "root.img")
	w.wantFile(lines(50_000, 2), "two", "root.img")
	w.umount()
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", info, err)
	}
	if err := os.RemoveAll(w.cache); err != nil {
		t.Fatal(err)
	}

	// "one" changes under its name; "two" leaves the feed.
	w.origin.PutBytes("/one.xvm", good(3))
	w.items = w.items[:1]
	w.origin.PutBytes("/vmcast.xml", rss(w.items...))
	w.mount(opts...)
	refused := func() {
		t.Helper()
		if _, err := os.ReadFile(w.path("one", "root.img")); !errors.Is(err, syscall.EACCES) {
			t.Errorf("read: %v", err)
		}
	}
	testkit.Eventually(t, "what changed is noticed", time.Minute, func() bool {
		refused() // the first one by what was kept of the release, and has it looked at again
		return w.status().Releases[0].Alarm != ""
	})
	st := w.status()
	if !strings.Contains(st.Feed.Rollback, `the feed went back: its newest release is "one"`) {
		t.Errorf("feed: %+v", st.Feed)
	}
	if !strings.Contains(st.Releases[0].Alarm, "changed after it was first seen") {
		t.Errorf("release: %+v", st.Releases[0])
	}
	for _, args := range [][]string{{"status", w.dir}, {"list", "-o", w.options("keyring=" + ring), w.feed}, {"trust", "list", "-o", "state=" + state}} {
		out, _ := w.run(args...)
		if !strings.Contains(out, "ALARM") || !strings.Contains(out, "went back") {
			t.Errorf("%s says\n%s", args[0], out)
		}
	}
	if log := string(readAll(t, logPath)); !strings.Contains(log, "the feed went back") || !strings.Contains(log, "changed after it was first seen") {
		t.Errorf("log:\n%s", log)
	}

	out, err := w.run("trust", "accept", "-o", "state="+state, w.feed)
	if err != nil || !strings.Contains(out, "(rollback)") || !strings.Contains(out, "(changed)") {
		t.Errorf("accept: %v\n%s", err, out)
	}
	testkit.Eventually(t, "the mount takes it", time.Minute, func() bool {
		_, err := os.ReadFile(w.path("one", "root.img"))
		return err == nil
	})
	w.wantFile(lines(50_000, 3), "one", "root.img")
	if out, err := w.run("trust", "accept", "-o", "state="+state, w.feed); exitCode(err) != exitFailed {
		t.Errorf("accept again: %v\n%s", err, out)
	}
	out, err = w.run("trust", "list", "-o", "state="+state, w.feed)
	if err != nil || !strings.Contains(out, "signed by rsa <rsa@example.org>") || !strings.Contains(out, "accepted") || strings.Contains(out, "ALARM") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := w.run("trust", "forget", "-o", "state="+state, w.feed, "one"); err != nil {
		t.Errorf("forget: %v\n%s", err, out)
	}
	if out, _ := w.run("trust", "list", "--json", "-o", "state="+state); strings.Contains(out, `"one"`) {
		t.Errorf("not forgotten:\n%s", out)
	}
	if out, err := w.run("trust", "accept", "-o", "state="+state, w.feed, "nobody"); exitCode(err) != exitFailed {
		t.Errorf("accept of nothing: %v\n%s", err, out)
	}
}

// TestStateUnwritable: a mount whose trust state cannot be written says so, and
// goes on only if signatures are not asked for.
func TestStateUnwritable(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"root.img", lines(1000, 1)}))
	g := newGnuPG(t)
	g.key("rsa", "ed25519", "never")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := "cache=" + w.cache + ",cache_free=0,state=" + file
	out, err := w.run("mount", "-o", bad+",keyring="+g.ring("rsa"), w.feed, w.dir)
	if exitCode(err) != exitSystem || !strings.Contains(out, "trust state") || !strings.Contains(out, "state=DIR") {
		t.Errorf("require: %v\n%s", err, out)
	}
	logPath := filepath.Join(t.TempDir(), "log")
	w.opts = []string{"state=" + file}
	w.mount("sig=ignore", "log="+logPath)
	w.wantFile(lines(1000, 1), "one", "root.img")
	if log := string(readAll(t, logPath)); !strings.Contains(log, "not remembered") {
		t.Errorf("log:\n%s", log)
	}
}

// TestDefaultKeyring: with keys in /etc/vmcastfs/keys signatures are required,
// of every user and by every command; sig=ignore takes that back. Keys that
// cannot be read are not none.
func TestDefaultKeyring(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "unshare")
	testkit.Need(t, "setpriv")
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a namespace with an /etc of its own")
	}
	g := newGnuPG(t)
	g.key("good", "ed25519", "never")
	dir := t.TempDir()
	open(t, dir, filepath.Dir(binary))
	disk := member{"root.img", lines(1000, 1)}
	manifest := sha1sums(disk)
	for name, content := range map[string][]byte{
		"unsigned.xvm": packListed(t, disk),
		"signed.xvm":   pack(t, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign("good", manifest)}, disk),
		"good.asc":     g.run("", "--batch", "--armor", "--export", g.user("good")),
		"feed.xml":     rss(item{"signed", "signed.xvm"}, item{"unsigned", "unsigned.xvm"}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The namespace begins with copies of the mounts of other tests, which must
	// not live on by it.
	const script = `set -e
for m in $(grep fuse.vmcastfs /proc/mounts | cut -d" " -f2); do umount -l "$m" || true; done
mount -t tmpfs -o mode=755 none /etc; mkdir -p /etc/vmcastfs/keys
v() { setpriv --reuid=$uid --regid=$uid --clear-groups -- "$vmcastfs" "$@" 2>&1; }
no() { if v "$@"; then echo "no failure: $*"; exit 1; fi; }
v verify unsigned.xvm
if [ $uid = 0 ]; then # a mount that runs when the first key comes
  d=$(mktemp -d); mkdir $d/m
  v mount -o cache=$d/c,state=$d/s,cache_free=0 feed.xml $d/m
  cat $d/m/unsigned/root.img >/dev/null
fi
cp good.asc /etc/vmcastfs/keys/
if [ $uid = 0 ]; then
  i=0
  while cat $d/m/unsigned/root.img >/dev/null 2>&1; do
    i=$((i+1)); [ $i -lt 120 ] || { echo "the key that came does not count"; exit 1; }
    sleep 0.5
  done
  cat $d/m/signed/root.img >/dev/null
  umount $d/m
fi
v verify signed.xvm | grep 'manifest: good, by good'
no verify unsigned.xvm
v verify -o sig=ignore unsigned.xvm
d=$(mktemp -d); chown $uid $d
no list -o cache=$d/c,state=$d/s,cache_free=0 feed.xml >$d/list
grep -A1 '^unsigned ' $d/list | grep 'the manifest is not signed by a trusted key'
rm -r $d
mount -t tmpfs -o mode=0 none /etc/vmcastfs/keys
if [ $uid != 0 ]; then no verify unsigned.xvm; v verify -o sig=ignore unsigned.xvm; fi
`
	for _, uid := range []int{0, nobody} {
		if out, err := command(t, dir, "env", fmt.Sprintf("uid=%d", uid), "vmcastfs="+binary, "unshare", "-m", "sh", "-c", script); err != nil {
			t.Errorf("user %d: %v\n%s", uid, err, out)
		}
	}
}
