package xvm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSigner(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s, err := NewSigner("Demo", "demo@example.org", at)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.SecretKey()
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = ParseSigner(secret, nil); err != nil {
		t.Fatal(err)
	}
	if identityOf(s.entity) != "Demo <demo@example.org>" || len(s.Fingerprint()) != 40 {
		t.Errorf("%q %q", identityOf(s.entity), s.Fingerprint())
	}
	data := []byte("content\n")
	sig, err := s.Sign(data, at.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := s.Sign(data, at.Add(time.Hour)); err != nil || !bytes.Equal(sig, again) {
		t.Errorf("not reproducible: %v", err)
	}
	if _, err := s.Sign(data, at.Add(-time.Hour)); err == nil {
		t.Error("signed before the key was made")
	}
	k, err := ParseKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Verify(data, sig, at.Add(2*time.Hour)); err != nil {
		t.Error(err)
	}
	// A clock that is a little slow is no reason to refuse.
	if _, err := k.Verify(data, sig, at.Add(time.Hour-maxClockSkew+time.Second)); err != nil {
		t.Error(err)
	}
	if _, err := k.Verify(data, sig, at.Add(time.Hour-maxClockSkew-time.Second)); err == nil {
		t.Error("signed in the future")
	}
	if _, err := ParseSigner(public, nil); err == nil {
		t.Error("a public key is taken for a secret one")
	}
	for name, pass := range map[string]string{"rsa.sec": "", "pass.sec": "secret"} {
		s, err := ParseSigner(readKeyFile(t, "testdata/keys", name), []byte(pass))
		if err != nil {
			t.Fatal(err)
		}
		k, err := LoadKeyring(filepath.Join("testdata/keys", strings.Replace(name, ".sec", ".key", 1)))
		if err != nil {
			t.Fatal(err)
		}
		now := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
		sig, err := s.Sign(data, now)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Verify(data, sig, now); err != nil {
			t.Error(err)
		}
	}
	if _, err := ParseSigner(readKeyFile(t, "testdata/keys", "pass.sec"), []byte("wrong")); err == nil {
		t.Error("a wrong passphrase is accepted")
	}
	if _, err := ParseSigner(readKeyFile(t, "testdata/keys", "pass.sec"), nil); err == nil || !strings.Contains(err.Error(), "needs a passphrase") {
		t.Errorf("taken without the passphrase: %v", err)
	}
}

// TestSignerSatisfiesGnuPG lets gpg check what we sign.
func TestSignerSatisfiesGnuPG(t *testing.T) {
	t.Parallel()
	requireTool(t, "gpg")
	home, err := os.MkdirTemp("/tmp", "vmcast-gpg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd := exec.Command("gpgconf", "--kill", "all")
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home)
		cmd.Run()
		os.RemoveAll(home)
	})
	at := time.Now().Add(-time.Hour)
	s, err := NewSigner("Demo", "demo@example.org", at)
	if err != nil {
		t.Fatal(err)
	}
	public, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign([]byte("content\n"), at)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"key": public, "sig": sig, "file": []byte("content\n")} {
		if err := os.WriteFile(filepath.Join(home, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"--import", "key"}, {"--verify", "sig", "file"}} {
		cmd := exec.Command("gpg", append([]string{"--batch"}, args...)...)
		cmd.Dir = home
		cmd.Env = append(os.Environ(), "GNUPGHOME="+home, "LC_ALL=C")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("gpg %v: %v\n%s", args, err, out)
		}
	}
}
