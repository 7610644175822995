package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

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
