package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestKeysChangeUnderMount adds, revokes and removes keys while a mount runs: with
// SIGHUP at once, else within seconds.
func TestKeysChangeUnderMount(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	g := newGnuPG(t)
	g.key("first", "ed25519", "never")
	g.key("second", "ed25519", "20d")
	disk := noise(70<<20, 1) // more than is checked whole at once
	small := member{"xvm.xml", []byte("<xvm/>")}
	release := func(name, key string) {
		image := member{"root.img", disk}
		manifest := append([]byte("# vmcast-release: "+name+"\n"), sha1sums(small, image)...)
		w.publish(name, pack(t, small, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign(key, manifest)},
			member{"signature.asc", g.sign(key, small.content)}, image))
	}
	release("one", "first")
	release("two", "second")
	told := filepath.Join(t.TempDir(), "told")
	hook := filepath.Join(t.TempDir(), "hook")
	if err := os.WriteFile(hook, []byte("#!/bin/sh\necho \"$1 $VMCASTFS_RELEASE $VMCASTFS_REASON\" >>"+told+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	ring := t.TempDir() // empty as yet
	log := filepath.Join(t.TempDir(), "log")
	w.mount("keyring="+ring, "complete=off", "on_event="+hook, "log="+log)
	hup := func() {
		t.Helper()
		for _, pid := range w.daemons() {
			if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
		}
	}
	opens := func(release string) bool {
		f, err := os.Open(w.path(release, "root.img"))
		if err == nil {
			f.Close()
		} else if !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s: %v", release, err)
		}
		return err == nil
	}
	if opens("one") || opens("two") {
		t.Fatal("something is served without a key")
	}
	if text := string(readAll(t, log)); !strings.Contains(text, "the keyring is an empty directory") {
		t.Error("the log does not tell that there is no key")
	}
	if err := os.WriteFile(filepath.Join(ring, "first.gpg"), g.run("", "--batch", "--export", g.user("first")), 0o644); err != nil {
		t.Fatal(err)
	}
	hup()
	testkit.Eventually(t, "the first key counts", time.Minute, func() bool { return opens("one") })
	if opens("two") {
		t.Fatal("the wrong release is served")
	}
	guest, err := os.Open(w.path("one", "root.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer guest.Close()

	// A key comes.
	second := g.run("", "--batch", "--export", g.user("second"))
	if err := os.WriteFile(filepath.Join(ring, "second.gpg"), second, 0o644); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "the new key counts", time.Minute, func() bool { return opens("two") })
	testkit.Eventually(t, "a warning of the key that expires in 20 days", time.Minute, func() bool {
		return strings.Contains(strings.Join(w.release("two").Warnings, "\n"), "counts until")
	})

	// A key is revoked: its owner's key is exported anew.
	g.run("y\n1\n\ny\n", "--command-fd=0", "--status-fd=2", "--armor", "--output", filepath.Join(g.home, "rev.asc"), "--gen-revoke", g.fingerprint("first"))
	g.run("", "--batch", "--import", filepath.Join(g.home, "rev.asc"))
	if err := os.WriteFile(filepath.Join(ring, "revoked.gpg"), g.run("", "--batch", "--export", g.user("first")), 0o644); err != nil {
		t.Fatal(err)
	}
	hup()
	testkit.Eventually(t, "the revoked key does not count", time.Minute, func() bool { return !opens("one") })
	testkit.Eventually(t, "the status tells", time.Minute, func() bool {
		st := w.release("one")
		return st.State == "refused" && strings.Contains(st.Error, "the key is revoked")
	})
	p := make([]byte, 1<<20)
	if _, err := guest.ReadAt(p, 60<<20); err != nil || !bytes.Equal(p, disk[60<<20:61<<20]) {
		t.Errorf("a guest that has the image open: %v", err)
	}
	testkit.Eventually(t, "an event tells", time.Minute, func() bool {
		b, _ := os.ReadFile(told)
		return strings.Contains(string(b), "refused one") && strings.Contains(string(b), "the key is revoked")
	})
	if !opens("two") {
		t.Error("the other release suffers")
	}

	// All keys go.
	if err := os.RemoveAll(ring); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "without keys nobody is trusted", 60*time.Second, func() bool { return !opens("two") })
	if text := string(readAll(t, log)); !strings.Contains(text, "no key is trusted") {
		t.Error("the log does not tell")
	}
}
