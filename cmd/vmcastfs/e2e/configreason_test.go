package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// What cannot be booted as it is is refused with the reason, and with what helps.
func TestConfigTellsWhy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	create := func(name string, args ...string) member {
		path := filepath.Join(dir, name)
		makeImage(t, slices.Concat([]string{"create", "-q"}, args, []string{path, "2M"})...)
		return member{name, readAll(t, path)}
	}
	dirty := create("dirty.vhdx", "-f", "vhdx")
	for _, at := range []int{64 << 10, 128 << 10} {
		dirty.content[at+48] = 1 // the log's GUID
	}
	root := make([]byte, 1<<20)
	copy(root[1024+56:], "\x53\xef")
	description := func(file string) member {
		return member{"xvm.xml", []byte(`<xvm><kernel>k</kernel><disk file="` + file + `" target="sda1"/></xvm>`)}
	}
	w := bareWorld(t)
	for name, members := range map[string][]member{
		"dirty":     {dirty},
		"encrypted": {create("e.qcow2", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100")},
		"external":  {create("x.qcow2", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/passwd")},
		"corrupt":   {description("root.img"), {"root.img.gz", append([]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"), bytes.Repeat([]byte{0xff}, 5<<20)...)}, {"k", []byte("kernel")}},
		"alone":     {{"root.img", root}},
	} {
		w.publish(name, pack(t, members...))
	}
	w.mount()
	for _, c := range []struct{ form, release, want string }{
		{"qemu", "dirty", "qemu-img check -r all"},
		{"qemu", "encrypted", "--secret FILE"},
		{"xl", "external", "external: x.qcow2 names other files"},
		{"xl", "corrupt", "corrupt"},
		{"qemu", "corrupt", "corrupt"},
		{"xl", "alone", "| debugfs -f - " + w.path("alone/root.img")},
		{"qemu", "corrupt", "root.img.gz: "},
		{"libvirt", "encrypted", "qemu-img convert --object secret"},
	} {
		if out, err := w.run("config", c.form, w.path(c.release)); exitCode(err) != exitFailed || !strings.Contains(out, c.want) {
			t.Errorf("%s of %s: %v: %s", c.form, c.release, err, out)
		}
	}
	secret := filepath.Join(dir, "secret")
	if err := os.WriteFile(secret, []byte("abc"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := w.run("config", "xl", "--secret", secret, w.path("encrypted")); exitCode(err) != exitFailed || !strings.Contains(out, "qemu-img convert --object secret") {
		t.Errorf("%v: %s", err, out)
	}
	w.umount()

	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.mount("sig=require", "keyring="+filepath.Join(dir, "keys"))
	if out, err := w.run("config", "qemu", w.path("dirty")); exitCode(err) != exitFailed || !strings.Contains(out, "keyring=") || !strings.Contains(out, "sig=ignore") {
		t.Errorf("refused: %v: %s", err, out)
	}
}

// An encrypted image boots with the passphrase, and through an overlay.
func TestConfigEncrypted(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	dir := t.TempDir()
	disk, err := appliance.Disk(1<<20, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string][]byte{"disk": disk, "secret": []byte("abc")} {
		if err := os.WriteFile(at(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for file, form := range map[string][]string{
		"disk.qcow2": {"qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=100"},
		"disk.luks":  {"luks", "key-secret=s,iter-time=100"},
	} {
		makeImage(t, "convert", "--object", "secret,id=s,file="+at("secret"), "-f", "raw", "-O", form[0], "-o", form[1], at("disk"), at(file))
	}
	w := bareWorld(t)
	w.publish("one", pack(t, member{"disk.qcow2", readAll(t, at("disk.qcow2"))}))
	w.publish("two", pack(t, member{"disk.luks", readAll(t, at("disk.luks"))}))
	w.mount()
	overlays := t.TempDir()
	for _, release := range []string{"one", "two"} {
		for _, more := range [][]string{nil, {"--overlay", overlays}} {
			text := stdout(t, append(append([]string{"config", "qemu", "--accel", "tcg", "--secret", at("secret")}, more...), w.path(release))...)
			if out := script(t, text); !strings.Contains(out, appliance.BootedLine) {
				t.Errorf("%s\n%s", text, out)
			}
		}
	}
}

// Nothing is inflated to write a configuration: the first bytes of what an image
// is inflated from tell its format. A kernel is no image, and once it has been
// read it is verified.
func TestConfigInflatesNothing(t *testing.T) {
	t.Parallel()
	const size = 66 << 20 // more than a mount inflates by itself
	root := make([]byte, size)
	copy(root[1024+56:], "\x53\xef")
	w := bareWorld(t)
	w.opts = []string{"complete=off"}
	w.publish("one", packListed(t, member{"xvm.xml", []byte(`<xvm><machine>pv</machine><kernel>vmlinuz</kernel><disk file="root.img" target="sda1"/></xvm>`)},
		member{"vmlinuz", bytes.Repeat([]byte("kernel"), 500_000)}, member{"root.img.gz", gzipStored(t, root)}))
	w.mount()
	text := stdout(t, "config", "xl", w.path("one"))
	if !strings.Contains(text, `type = "pv"`) || !strings.Contains(text, "format=raw, vdev=xvda1, access=ro, target="+w.path("one/root.img")) {
		t.Error(text)
	}
	if n := w.packageStats().BytesSent; n > size/10 {
		t.Errorf("%d bytes were fetched", n)
	}
	readAll(t, w.path("one/vmlinuz"))
	if state := attr(w.path("one/vmlinuz"), "state"); state != "verified" {
		t.Errorf("vmlinuz is %s", state)
	}
	if out, err := w.run("list", "-o", w.options(), w.feed); err != nil || strings.Contains(out, "vmlinuz") || !strings.Contains(out, "root.img") {
		t.Errorf("%v: %s", err, out)
	}
}

// makeImage runs qemu-img, which on a busy machine may fail to time the derivation of a
// LUKS key.
func makeImage(t *testing.T, args ...string) {
	t.Helper()
	for try := 1; ; try++ {
		out, err := command(t, "", "qemu-img", args...)
		if err == nil {
			return
		}
		if try == 10 || !strings.Contains(out, "CPU usage") {
			t.Fatalf("%v: %s", err, out)
		}
	}
}
