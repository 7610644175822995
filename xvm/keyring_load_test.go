package xvm

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// publicKeys are armored public keys of new signers.
func publicKeys(t testing.TB, n int) (all [][]byte) {
	t.Helper()
	for range n {
		s, err := NewSigner("someone", "someone@example.org", judgedAt)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	return all
}

// TestKeyringBadFileCostsItself: in a directory one bad file costs nothing but
// itself, wherever it stands in the alphabet, and is named.
func TestKeyringBadFileCostsItself(t *testing.T) {
	t.Parallel()
	keys := publicKeys(t, 2)
	many := bytes.Repeat(readKeyFile(t, "testdata/keys", "two.gpg"), MaxKeyringKeys/2+1)
	for name, c := range map[string]struct {
		bad   func(path string) error
		named string // "": it is as good as any
	}{
		"larger than one may be": {func(path string) error {
			return os.WriteFile(path, append(bytes.Clone(keys[0]), make([]byte, maxKeyFile)...), 0o600)
		}, "larger than"},
		"larger than all may be": {func(path string) error { return os.WriteFile(path, nil, 0o600) }, "neither armored nor binary"},
		"sparse":                 {func(path string) error { return errOf(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) }, "larger than"},
		"too many keys":          {func(path string) error { return os.WriteFile(path, many, 0o600) }, "more than"},
		"text":                   {func(path string) error { return os.WriteFile(path, []byte("hello"), 0o600) }, "neither armored nor binary"},
		"a key and then garbage": {func(path string) error {
			return os.WriteFile(path, append(readKeyFile(t, "testdata/keys", "two.gpg"), "\xc6\xff"...), 0o600)
		}, "malformed"},
		"a FIFO":                   {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "not a regular file"},
		"a directory":              {func(path string) error { return os.Mkdir(path, 0o700) }, "not a regular file"},
		"a link to nowhere":        {func(path string) error { return os.Symlink("/nowhere", path) }, "no such file"},
		"of another user":          {func(path string) error { return errOf(os.WriteFile(path, keys[0], 0o600), os.Chown(path, 12345, -1)) }, "belongs to another user (12345)"},
		"for everybody to write":   {func(path string) error { return errOf(os.WriteFile(path, keys[0], 0o600), os.Chmod(path, 0o666)) }, "everybody may write"},
		"readable by all, as most": {func(path string) error { return os.WriteFile(path, keys[0], 0o644) }, ""},
	} {
		for _, place := range []string{"0", "m", "z"} {
			t.Run(name+" "+place, func(t *testing.T) {
				dir := t.TempDir()
				if err := c.bad(filepath.Join(dir, place+".asc")); err != nil {
					t.Skip(err) // of another user: needs root
				}
				for i, k := range keys {
					if err := os.WriteFile(filepath.Join(dir, string("by"[i])+".asc"), k, 0o600); err != nil {
						t.Fatal(err)
					}
				}
				ring, err := LoadKeyring(dir)
				if err != nil {
					t.Fatal(err)
				}
				want, warnings := 2, strings.Join(ring.Warnings(), "\n")
				if c.named == "" {
					want++
				} else if !strings.Contains(warnings, place+".asc") || !strings.Contains(warnings, c.named) {
					t.Errorf("warnings %q, want %q", warnings, c.named)
				}
				if ring.Len() != want {
					t.Errorf("%d keys, want %d; %q", ring.Len(), want, warnings)
				}
				if c.named != "" && name != "a directory" {
					if k, err := LoadKeyring(filepath.Join(dir, place+".asc")); err == nil && name != "larger than one may be" {
						t.Errorf("alone it is a keyring of %d keys", k.Len())
					}
				}
			})
		}
	}
}

func errOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestKeyringOfAnotherUser: who owns the directory decides what is trusted.
func TestKeyringOfAnotherUser(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.asc"), publicKeys(t, 1)[0], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyring(dir); err == nil || !strings.Contains(err.Error(), "everybody may write") {
		t.Error(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKeyring(dir); err != nil {
		t.Error(err)
	}
	if err := os.Chown(dir, 12345, -1); err != nil {
		t.Skip(err)
	}
	if _, err := LoadKeyring(dir); err == nil || !strings.Contains(err.Error(), "another user") {
		t.Error(err)
	}
}

// TestKeyringStamp: whatever changes the keyring changes its stamp, and nothing
// else does.
func TestKeyringStamp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "keys")
	seen := map[string]string{}
	step := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		stamp := KeyringStamp(path)
		if before, ok := seen[stamp]; ok {
			t.Errorf("%s: the same stamp as %s", what, before)
		}
		if KeyringStamp(path) != stamp {
			t.Errorf("%s: the stamp is never the same", what)
		}
		seen[stamp] = what
	}
	a, b := filepath.Join(path, "a.asc"), filepath.Join(path, "b.gpg")
	step("nothing there", nil)
	step("an empty directory", os.Mkdir(path, 0o755))
	step("a file", os.WriteFile(a, []byte("1"), 0o644))
	step("rewritten, as long", errOf(os.WriteFile(a, []byte("2"), 0o644)))
	step("a second", os.WriteFile(b, []byte("1"), 0o644))
	step("renamed over", os.Rename(b, a))
	step("another mode", os.Chmod(a, 0o600))
	stamp := KeyringStamp(path)
	if err := os.WriteFile(filepath.Join(path, "README"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = stamp // the directory itself has changed: to look once more costs nothing
	step("removed", os.Remove(a))
	step("a file instead", errOf(os.RemoveAll(path), os.WriteFile(path, []byte("1"), 0o644)))
}
