package xvm

import (
	"fmt"
	"strings"
	"testing"
)

// TestC4HostileDescription: of a description that tries everything, nothing is
// left that could reach the host.
func TestC4HostileDescription(t *testing.T) {
	t.Parallel()
	d, err := ParseDescription(readDescription(t, "hostile.xml"))
	if err != nil {
		t.Fatal(err)
	}
	if what := d.unclean(); what != "" {
		t.Error(what)
	}
	for _, dr := range d.Drives {
		if dr.File != "shadow" || strings.ContainsAny(dr.Target+dr.Bus, ",/;: ") {
			t.Errorf("drive %+v", dr)
		}
	}
	for _, file := range []string{d.Kernel, d.Ramdisk} {
		if strings.ContainsAny(file, "/:{") || strings.Contains(file, "..") {
			t.Errorf("file %q", file)
		}
	}
	values := fmt.Sprintf("%q %q %q %q %q", d.Arch, d.Firmware, d.Machine, d.Cmdline, d.NICs)
	for _, evil := range []string{"/etc/", "evil", "rm -rf", "reboot", "netdev", "-chardev", "\u009b", "\u202e", "emulator", "hostdev"} {
		if strings.Contains(values, evil) {
			t.Errorf("%q is left in\n%s", evil, values)
		}
	}
	warnings := strings.Join(d.Warnings, "\n")
	for _, part := range []string{"emulator", "loader", "hostdev", "filesystem", "commandline"} {
		if !strings.Contains(warnings, part) {
			t.Errorf("no warning about %s in\n%s", part, warnings)
		}
	}
	if d.MemoryMiB != 0 || d.CPUs != 0 {
		t.Errorf("%d MiB, %d CPUs", d.MemoryMiB, d.CPUs)
	}
}
