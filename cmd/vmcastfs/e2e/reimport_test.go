package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// TestReimportKeepsProfile: a boot profile that somebody put into the sidecar of an image stays in
// it, though the feed is imported again, also after it was lost or to have the sidecars signed.
func TestReimportKeepsProfile(t *testing.T) {
	t.Parallel()
	w, dir := bareWorld(t), t.TempDir()
	const name, at = "debian-12-generic-arm64.qcow2", "/d/20240601/"
	image, out := noise(300_000, 1), filepath.Join(dir, "vmcast.xml")
	w.origin.PutBytes(at+name, image)
	w.origin.PutBytes(at+"SHA512SUMS", fmt.Appendf(nil, "%x  %s\n", sha512.Sum512(image), name))
	g := newGnuPG(t)
	g.key("own", "ed25519", "never")
	key := filepath.Join(dir, "own.key")
	must(t, os.WriteFile(key, g.run("", "--batch", "--armor", "--export-secret-keys", g.user("own")), 0o600))
	profile := filepath.Join(dir, "profile")
	must(t, os.WriteFile(profile, []byte("vmcast-profile 1\n"+name+" 65536 4096\n"), 0o600))
	imports := func(more ...string) string {
		text, err := w.run(append([]string{"feed", "import", "--unsigned", "--index", "-o", out}, append(more, w.origin.URL()+at)...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		all, _ := filepath.Glob(filepath.Join(dir, "*.sidecar"))
		if len(all) != 1 {
			t.Fatalf("sidecars: %q", all)
		}
		return all[0]
	}
	sidecar := imports()
	if text, err := w.run("index", "--profile", profile, "-o", sidecar, w.origin.URL()+at+name); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	kept := func(when string) {
		t.Helper()
		if got := memberOf(t, sidecar, "profile.txt"); !bytes.Equal(got, readAll(t, profile)) {
			t.Errorf("%s the profile is %q", when, got)
		}
	}
	imports()
	kept("again:")
	must(t, os.Remove(out))
	imports()
	kept("the feed was lost:")
	imports("--sign", key)
	kept("signed:")
	if memberOf(t, sidecar, "mf-signature.asc") == nil {
		t.Error("the sidecar is not signed")
	}
}

// memberOf is a member of a tar, or nil.
func memberOf(t *testing.T, path, name string) []byte {
	t.Helper()
	r := tar.NewReader(bytes.NewReader(readAll(t, path)))
	for {
		h, err := r.Next()
		if err != nil {
			return nil
		}
		if h.Name == name {
			content, err := io.ReadAll(r)
			must(t, err)
			return content
		}
	}
}
