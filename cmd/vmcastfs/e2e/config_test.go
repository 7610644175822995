package e2e

import (
	"context"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// stdout runs the binary and returns what a pipe would get.
func stdout(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, args...).Output()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, stderrOf(err))
	}
	return string(out)
}

// stderrOf is what a command that failed said.
func stderrOf(err error) []byte {
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.Stderr
	}
	return nil
}

// script runs what config qemu printed.
func script(t *testing.T, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "sh", "-c", text).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, text, out)
	}
	return string(out)
}

func TestConfigQEMUBoots(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	w := newWorld(t, appliance.Options{})
	w.mount()
	text := stdout(t, "config", "qemu", "--accel", "tcg", w.path("latest"))
	if !strings.Contains(text, w.path("demo-1.1", "disk.img")+",format=raw") || strings.Contains(text, "latest") {
		t.Errorf("the release is not named:\n%s", text)
	}
	if out := script(t, text); !strings.Contains(out, appliance.BootedLine) {
		t.Errorf("%s\n%s", text, out)
	}
	overlay := t.TempDir()
	text = stdout(t, "config", "qemu", "--accel", "tcg", "--overlay", overlay, w.path("demo-1.0"))
	for range 2 { // the second time with the overlay that is there
		if out := script(t, text); !strings.Contains(out, appliance.BootedLine) {
			t.Errorf("%s\n%s", text, out)
		}
	}
	if _, err := os.Stat(filepath.Join(overlay, "demo-1.0-disk.qcow2")); err != nil {
		t.Error(err)
	}
}

// A package of partition images boots with its own kernel, as the image of a
// partition alone cannot: with xl from its partitions, with QEMU from the one
// drive that is made of them.
func TestConfigPartitionBoots(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	g, err := buildGuest(t.Context(), t.TempDir(), kernelPackage(t), 24)
	if err != nil {
		t.Fatal(err)
	}
	description := []byte(`<xvm><name>guest</name><memory unit="MiB">256</memory><machine>pv</machine>
		<kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk><cmdline>root=/dev/xvda5 ` + strings.Replace(g.append, "ttyS0", "hvc0", 1) + `</cmdline>
		<disk file="swap.img" target="xvda1"/><disk file="root.img" target="xvda5"/></xvm>`)
	swap := member{"swap.img", make([]byte, 1<<20)}
	copy(swap.content[4086:], "SWAPSPACE2")
	root := member{"root.img", readAll(t, g.root)}
	w := bareWorld(t)
	w.publish("guest", pack(t, member{"xvm.xml", description}, member{"vmlinuz", readAll(t, g.kernel)}, member{"initrd.img", readAll(t, g.initrd)}, swap, root))
	w.publish("alone", pack(t, member{"xvm.xml", []byte(`<xvm><disk file="root.img" target="xvda1"/></xvm>`)}, root))
	w.mount()
	text := stdout(t, "config", "qemu", "--accel", "tcg", w.path("guest"))
	if !strings.Contains(text, w.path("guest/disk.img")+",format=raw") || !strings.Contains(text, "root=/dev/vda5 ") || strings.Count(text, "-drive") != 1 {
		t.Errorf("not one drive:\n%s", text)
	}
	if out := script(t, text); !strings.Contains(out, guestOK) {
		t.Errorf("%s\n%s", text, out)
	}
	text = stdout(t, "config", "xl", w.path("guest"))
	for _, want := range []string{`type = "pv"`, "vdev=xvda5, access=ro, target=" + w.path("guest/root.img"), `cmdline = "root=/dev/xvda5 `} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	out, err := w.run("config", "qemu", w.path("alone"))
	if exitCode(err) != exitFailed || !strings.Contains(out, "image of a partition") || !strings.Contains(out, "--kernel") {
		t.Errorf("%v: %s", err, out)
	}
}

// What is printed runs as it is printed, whatever a stranger has called things.
func TestConfigHostileNames(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "qemu-system-x86_64")
	disk, err := appliance.Disk(1<<20, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	// In a mount there is neither a comma in a name nor a dash before it.
	const name = `a "b" 'c' $(touch x) ` + "`id`" + `;&|<>#*?[~]é=.img`
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(name)); err != nil {
		t.Fatal(err)
	}
	w := bareWorld(t)
	w.publish("one", pack(t, member{"xvm.xml", []byte(`<xvm><name>-evil,process=x$(id)</name><disk file="` + escaped.String() + `" target="vda"/></xvm>`)}, member{name, disk}))
	w.mount()
	dir := filepath.Join(t.TempDir(), `-drive file=x,readonly,, 'a' "b" $(touch x)`)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "-a,format=qcow2.img"), disk, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{w.path("one"), dir} {
		text := stdout(t, "config", "qemu", "--accel", "tcg", dir)
		if out := script(t, text); !strings.Contains(out, appliance.BootedLine) {
			t.Errorf("%s\n%s", text, out)
		}
	}
}

func TestConfigMistakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	w.mount()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"config", "vmware", w.path("latest")}, "knows qemu, xl and libvirt"},
		{[]string{"config", "qemu", w.dir}, "not a release in it"},
		{[]string{"config", "qemu", w.path("no-such")}, "no such file"},
		{[]string{"config", "qemu", dir}, "no disk image"},
		{[]string{"config", "qemu"}, "DIR/RELEASE"},
		{[]string{"config", "qemu", "--accel", "warp", w.path("latest")}, "--accel"},
	} {
		if out, err := w.run(c.args...); exitCode(err) != exitFailed || !strings.Contains(out, c.want) {
			t.Errorf("%q: %v: %s", c.args, err, out)
		}
	}
}

// The directory need not be a mount: an unpacked package does as well.
func TestConfigOfDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "box-1")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	disk, err := appliance.Disk(1<<20, 8, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"disk.img": disk, "description.xml": []byte(`<domain><name>prod</name><memory>131072</memory>
		<devices><emulator>/bin/evil</emulator><disk><source file="/var/disk.img"/><target dev="hda"/></disk></devices></domain>`)} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "link.img")); err != nil {
		t.Fatal(err)
	}
	var d struct {
		Name    string `xml:"name"`
		Memory  int    `xml:"memory"`
		Devices struct {
			Emulator string `xml:"emulator"`
			Disk     []struct {
				Source struct {
					File string `xml:"file,attr"`
				} `xml:"source"`
			} `xml:"disk"`
		} `xml:"devices"`
	}
	if err := xml.Unmarshal([]byte(stdout(t, "config", "libvirt", dir)), &d); err != nil {
		t.Fatal(err)
	}
	if d.Name != "box-1" || d.Memory != 128 || d.Devices.Emulator != "" || len(d.Devices.Disk) != 1 || d.Devices.Disk[0].Source.File != filepath.Join(dir, "disk.img") {
		t.Errorf("%+v", d)
	}
}
