package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackageInADirectory: what "tar -cf x.xvm mydir" makes is the package that
// is in the directory, for every command and with all its trust: the signed
// manifest counts, and the block list; a sidecar and the guid as well.
func TestPackageInADirectory(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	g.key("good", "ed25519", "never")
	ring := g.ring("good")
	w := bareWorld(t)
	dir := t.TempDir()
	disk := lines(700_000, 1)
	own := filepath.Join(dir, "my dir")
	put := func(name string, content []byte) {
		t.Helper()
		path := filepath.Join(own, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := command(t, dir, name, args...)
		if err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
		return out
	}
	vmcastfs := func(args ...string) string { return run(binary, args...) }

	// By hand, as FORMATS has it; the image is in a directory of its own.
	about := member{"xvm.xml", []byte(`<xvm><name>box</name><memory unit="MiB">321</memory><disk file="images/root.img" target="vda"/></xvm>`)}
	image := member{"images/root.img", disk}
	manifest := append([]byte("# vmcast-release: box\n"), sha1sums(about, image)...)
	put(about.name, about.content)
	put(image.name, disk)
	put("manifest.txt", manifest)
	put("mf-signature.asc", g.sign("good", manifest))
	put("signature.asc", g.sign("good", about.content))
	www := filepath.Join(dir, "www")
	if err := os.Mkdir(www, 0o755); err != nil {
		t.Fatal(err)
	}
	run("tar", "-cf", "www/box.xvm", "my dir/")

	// By pack, taken out and put together again.
	key := filepath.Join(dir, "key.asc")
	if err := os.WriteFile(key, g.run("", "--batch", "--armor", "--export-secret-keys"), 0o600); err != nil {
		t.Fatal(err)
	}
	vmcastfs("pack", "-o", "packed.xvm", "--sign", key, "my dir/xvm.xml", "my dir/images/root.img")
	run("mkdir", "deep")
	run("tar", "-C", "deep", "-xf", "packed.xvm")
	run("tar", "-czf", "packed.xvm.gz", "./deep")

	// Something beside the directory, and it is the root's files that count.
	run("cp", "www/box.xvm", "beside.xvm")
	run("tar", "-rf", "beside.xvm", "packed.xvm.gz")

	out := vmcastfs("verify", "-o", "keyring="+ring, "www/box.xvm")
	for _, want := range []string{"images/root.img  ", "sha1 in the manifest", "signature of the manifest: good", `its files are below "my dir"`, "5 of 5 files verified, 0 faults"} {
		if !strings.Contains(out, want) {
			t.Errorf("verify does not say %q:\n%s", want, out)
		}
	}
	if out = vmcastfs("verify", "-o", "keyring="+ring, "packed.xvm.gz"); !strings.Contains(out, " 0 faults") || !strings.Contains(out, "blocks") {
		t.Errorf("verify of a packed one:\n%s", out)
	}
	if out, err := command(t, dir, binary, "verify", "-o", "keyring="+ring, "beside.xvm"); exitCode(err) != exitFailed || !strings.Contains(out, "there is no manifest") {
		t.Errorf("verify of what is not all in one directory: %v\n%s", err, out)
	}
	vmcastfs("publish", "--base-url", "https://example.org/", "www")
	if feed := string(readAll(t, filepath.Join(www, "vmcast.xml"))); !strings.Contains(feed, ">box<") {
		t.Errorf("publish does not take the guid:\n%s", feed)
	}
	vmcastfs("index", "-o", "box.xvm.sidecar", "www/box.xvm")
	out = run("tar", "-xOf", "box.xvm.sidecar", "package.txt", "blocks.txt")
	for _, want := range []string{" images/root.img\n", " manifest.txt\n", "\nimage images/root.img\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the sidecar:\n%s", want, out)
		}
	}

	w.serveAt("box", "/box.xvm", readAll(t, filepath.Join(www, "box.xvm")))
	w.serveAt("packed", "/packed.xvm.gz", readAll(t, filepath.Join(dir, "packed.xvm.gz")))
	w.serveAt("beside", "/beside.xvm", readAll(t, filepath.Join(dir, "beside.xvm")))
	check := func(release, file, verify string) {
		t.Helper()
		path := w.path(release, file)
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w.wantFile(disk, release, file)
		if got := attr(path, "verify"); got != verify {
			t.Errorf("%s/%s is checked by %q, not %q", release, file, got, verify)
		}
		if out, err := command(t, w.path(release), "sha1sum", "-c", "manifest.txt"); err != nil {
			t.Errorf("sha1sum in %s: %v\n%s", release, err, out)
		}
	}
	w.mount("keyring="+ring, "verify=strict")
	check("box", "images/root.img", "strict")
	check("packed", "root.img", "block")
	if out := stdout(t, "config", "qemu", w.path("box")); !strings.Contains(out, "-m 321") || !strings.Contains(out, w.path("box", "images/root.img")) {
		t.Errorf("config:\n%s", out)
	}
	if _, err := os.ReadFile(w.path("beside", "my dir", "images", "root.img")); err == nil {
		t.Error("a manifest that is not at the root vouches for a file")
	}
	w.umount()
	w.mount("sidecar=" + dir) // as any package
	check("box", "images/root.img", "block")
}
