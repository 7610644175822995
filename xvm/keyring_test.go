package xvm

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLoadKeyringDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for from, to := range map[string]string{"rsa.key": "a.asc", "two.gpg": "b.gpg", "message.txt": "broken.asc", "ed25519.key": "notes.txt"} {
		if err := os.WriteFile(filepath.Join(dir, to), readKeyFile(t, "testdata/keys", from), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub.asc"), 0o755); err != nil {
		t.Fatal(err)
	}
	k, err := LoadKeyring(dir)
	if err != nil {
		t.Fatal(err)
	}
	if k.Len() != 3 || len(k.Warnings()) != 2 {
		t.Errorf("%d keys, warnings %q", k.Len(), k.Warnings())
	}
	if _, err := k.Verify(readKeyFile(t, "testdata/keys", "message.txt"), readKeyFile(t, "testdata/keys", "ed25519.sig"),
		time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Error(err)
	}
}

func TestS12LoadKeyringRefuses(t *testing.T) {
	t.Parallel()
	if _, err := LoadKeyring(filepath.Join(t.TempDir(), "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := LoadKeyring(t.TempDir()); !errors.Is(err, ErrNoKeys) {
		t.Error(err)
	}
	if _, err := LoadKeyring("testdata/keys/message.txt"); err == nil {
		t.Error("text taken for a keyring")
	}
	if _, err := LoadKeyring("testdata/keys/rsa.sig"); !errors.Is(err, ErrNoKeys) {
		t.Error(err)
	}
	keybox := append(make([]byte, 8), "KBXf and more"...)
	if _, err := ParseKeyring(keybox); err == nil || !strings.Contains(err.Error(), "gpg --export") {
		t.Error(err)
	}
	// S12: huge, endless or malformed keyrings end in an error.
	big := filepath.Join(t.TempDir(), "big.gpg")
	if err := os.WriteFile(big, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(big, 100<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyring(big); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Error(err)
	}
	one := readKeyFile(t, "testdata/keys", "two.gpg")
	if _, err := ParseKeyring(bytes.Repeat(one, MaxKeyringKeys/2+1)); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Error("too many keys")
	}
	for i := range one {
		ParseKeyring(one[:i])
	}
}

func TestS12Identity(t *testing.T) {
	t.Parallel()
	s, err := NewSigner("Eve \x1b[31m\u202e"+strings.Repeat("x", 400), "e@example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if id := identityOf(s.entity); strings.ContainsAny(id, "\x1b\u202e") || len(id) > 200 || !strings.HasPrefix(id, "Eve ") {
		t.Errorf("%q", id)
	}
}

func FuzzParseKeyring(f *testing.F) {
	for _, name := range []string{"two.gpg", "two.key", "subkey.key", "revoked.key"} {
		f.Add(readKeyFile(f, "testdata/keys", name))
	}
	message, sig := readKeyFile(f, "testdata/keys", "message.txt"), readKeyFile(f, "testdata/keys", "both.sig")
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseKeyring(b)
		if err != nil {
			return
		}
		if k.Len() == 0 {
			t.Fatal("no error, no keys")
		}
		k.Verify(message, sig, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
	})
}
