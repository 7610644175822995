package hvconfig

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/cache/testkit"
)

// libvirt's own schema accepts every domain.
func TestLibvirtValidates(t *testing.T) {
	validate := testkit.Need(t, "virt-xml-validate")
	testkit.Need(t, "xmllint")
	dir := t.TempDir()
	var files []string
	each(t, func(t *testing.T, name string, m *Machine) {
		text, err := m.Libvirt()
		if m.secret != "" {
			return // refused
		}
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, strings.ReplaceAll(name, " ", "_")+".xml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	})
	for _, file := range files {
		if out, err := exec.CommandContext(t.Context(), validate, file, "domain").CombinedOutput(); err != nil {
			text, _ := os.ReadFile(file)
			t.Errorf("%s: %v\n%s%s", filepath.Base(file), err, out, text)
		}
	}
	// The check can fail.
	bad := filepath.Join(dir, "bad.xml")
	if err := os.WriteFile(bad, []byte(`<domain type="qemu"><name>x</name><evil/></domain>`), 0o600); err != nil {
		t.Fatal(err)
	}
	if exec.CommandContext(t.Context(), validate, bad, "domain").Run() == nil {
		t.Error("virt-xml-validate accepts anything")
	}
}

// xl is Debian's, from its packages, which .ci/test downloads. It parses a file
// as `xl -N create` does, into the JSON that it would create the guest from.
type xl struct {
	bin, dir, shim string
}

func newXL(t *testing.T) xl {
	t.Helper()
	from := os.Getenv("VMCASTFS_TEST_XEN")
	if from == "" {
		from, _ = filepath.Abs("../../../.ci/.cache/xen")
	}
	debs, _ := filepath.Glob(filepath.Join(from, "*.deb"))
	if len(debs) == 0 {
		testkit.Missing(t, "xl (bash .ci/test downloads it; VMCASTFS_TEST_XEN names its packages)")
	}
	x := xl{dir: t.TempDir()}
	for _, deb := range debs {
		if out, err := exec.CommandContext(t.Context(), testkit.Need(t, "dpkg-deb"), "-x", deb, x.dir).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	bins, _ := filepath.Glob(filepath.Join(x.dir, "usr/lib/xen-*/bin/xl"))
	if len(bins) != 1 {
		t.Fatalf("%d programs xl in %q", len(bins), debs)
	}
	x.bin, x.shim = bins[0], filepath.Join(x.dir, "noxen.so")
	if out, err := exec.CommandContext(t.Context(), testkit.Need(t, "gcc"), "-shared", "-fPIC", "-w", "-o", x.shim, "testdata/noxen.c").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return x
}

// guest is what xl makes of a file.
type guest struct {
	Info struct {
		Name string
		Type string
	} `json:"c_info"`
	Build struct {
		Memory  int64 `json:"max_memkb"`
		CPUs    int   `json:"max_vcpus"`
		Kernel  string
		Ramdisk string
		Cmdline string
	} `json:"b_info"`
	Disks []struct {
		Path      string `json:"pdev_path"`
		Vdev      string
		Format    string
		ReadWrite int `json:"readwrite"`
		CDROM     int `json:"is_cdrom"`
	}
	NICs []struct{ Bridge, Model string }
}

func (x xl) parse(t *testing.T, text string) (*guest, error) {
	t.Helper()
	file := filepath.Join(x.dir, "guest.cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), x.bin, "-N", "create", file)
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+x.shim, "LD_LIBRARY_PATH="+filepath.Join(x.dir, "usr/lib/x86_64-linux-gnu"))
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Logf("xl says: %s", errs.String())
		return nil, err
	}
	g := &guest{}
	if err := json.Unmarshal(out, g); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return g, nil
}

// xl understands every file as it was meant.
func TestXLParses(t *testing.T) {
	x := newXL(t)
	each(t, func(t *testing.T, name string, m *Machine) {
		text, err := m.XL()
		if m.Arch != "x86_64" || m.secret != "" {
			if err == nil {
				t.Error("written for a machine that xl cannot run")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		g, err := x.parse(t, text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if g.Info.Name != m.Name || g.Build.Memory != int64(m.MemoryMiB)<<10 || g.Build.CPUs != m.CPUs || g.Build.Kernel != m.Kernel || g.Build.Ramdisk != m.Ramdisk {
			t.Errorf("%+v\n%s", g, text)
		}
		var want []Drive
		for _, v := range m.Drives {
			if !v.Floppy && !v.leftOut() {
				want = append(want, v)
			}
		}
		if len(g.Disks) != len(want) {
			t.Fatalf("%d disks, not %d\n%s", len(g.Disks), len(want), text)
		}
		for i, v := range want {
			path, format := v.Path, strings.ReplaceAll(v.Format, "vpc", "vhd")
			if v.Overlay != "" {
				path, format = v.Overlay, "qcow2"
			}
			got := g.Disks[i]
			if got.Path != path || got.Format != format || (got.ReadWrite == 1) != (v.Overlay != "") || (got.CDROM == 1) != v.CDROM {
				t.Errorf("disk %+v, want %+v\n%s", got, v, text)
			}
		}
		if m.fixed && g.Build.Cmdline != m.cmdline {
			t.Errorf("command line %q from %q", g.Build.Cmdline, m.cmdline)
		}
		if strings.HasPrefix(name, "odd") && g.Build.Cmdline != `a="b c" $(id) 'x' \ , root=/dev/sda1 console=ttyS0` && g.Build.Cmdline != `a="b c" $(id) 'x' \ , root=/dev/xvda1 console=ttyS0` {
			t.Errorf("command line is %s", g.Build.Cmdline)
		}
	})
	if _, err := x.parse(t, "name = \"x\"\nmemory = 64\ntype = \"hvm\"\ndisk = [ \"format=odd, vdev=xvda, target=/x\" ]\n"); err == nil {
		t.Error("xl accepts anything")
	}
}
