package hvconfig

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"

	"vmcastfs/xvm"
)

// Options are what the administrator decides.
type Options struct {
	Dir     string // absolute path of the release
	Name    string // of the machine
	Overlay string // absolute path of the directory for overlays; "": none
	Kernel  string // absolute path of a kernel to boot instead of the package's; "": none
	Ramdisk string // ... its ramdisk
	Append  string // kernel command line instead of the package's; "": that
	Network string // bridge (QEMU, xl) or network (libvirt); "": user network, with xl none
	KVM     bool   // hardware virtualization may be used

	Made      string // MadeOverlay or MadeCopy: the disks in Overlay are there; "": the text makes them
	MemoryMiB int    // 0: as described
	CPUs      int    // 0: as described

	AllowExternal bool // images may name other files
	Joined        Joined
}

// Machine is what is going to be written, in any of the three forms.
type Machine struct {
	Name      string
	MemoryMiB int
	CPUs      int
	Arch      string // x86_64 or aarch64
	UEFI      bool
	PV        bool // a Xen guest without emulated hardware
	Kernel    string
	Ramdisk   string
	Drives    []Drive
	NICs      []string // models, "" for the usual one
	Notes     []string // for people, one line each

	dir     string
	network string
	kvm     bool
	cmdline string
	fixed   bool // cmdline is the administrator's: left as it is

	joinedDrive Drive // stands for the drives with these numbers, for whom single asks
	joinedParts []int
}

// ErrNotBootable is wrapped when nothing in the release can be booted.
var ErrNotBootable = errors.New("cannot boot by itself")

// New plans the machine. drives are what [Choose] returned, and files has an
// entry for each of them.
func New(d *xvm.Description, drives []xvm.Drive, files map[string]File, exists func(string) bool, o Options) (*Machine, error) {
	for _, p := range []string{o.Dir, o.Overlay, o.Kernel, o.Ramdisk} {
		if p != "" && !filepath.IsAbs(p) {
			return nil, fmt.Errorf("%q is no absolute path", p)
		}
	}
	for _, s := range []string{o.Dir, o.Overlay, o.Kernel, o.Ramdisk, o.Append, o.Network, o.Name} {
		if err := printable(s); err != nil {
			return nil, err
		}
	}
	m := &Machine{
		Name: machineName(o.Name), MemoryMiB: cmp.Or(o.MemoryMiB, d.MemoryMiB), CPUs: max(cmp.Or(o.CPUs, d.CPUs), 1), UEFI: d.Firmware == "uefi", PV: d.Machine == "pv",
		dir: o.Dir, network: o.Network, kvm: o.KVM,
	}
	for _, w := range d.Warnings {
		m.note("description: %s", w)
	}
	if m.MemoryMiB == 0 {
		m.MemoryMiB = 512
		m.note("the description does not say how much memory the machine needs")
	}
	switch d.Arch {
	case "", "x86_64", "i686":
		m.Arch = "x86_64"
	case "aarch64":
		m.Arch, m.PV = d.Arch, false
	default:
		return nil, fmt.Errorf("the machine is an %s: only x86 and aarch64 are known here", d.Arch)
	}
	if err := m.addDrives(drives, files, o); err != nil {
		return nil, err
	}
	if err := m.join(drives, o); err != nil {
		return nil, err
	}
	m.addKernel(d, exists, o)
	for i := range m.Drives {
		if m.Kernel != "" || m.Drives[i].Partition {
			m.Drives[i].Order = 0 // not from a drive
		}
	}
	m.NICs = append(m.NICs, d.NICs...)
	return m, m.bootable()
}

// bootable says whether anything of this can boot.
func (m *Machine) bootable() error {
	if m.Kernel != "" {
		return nil
	}
	for _, v := range m.Drives {
		if !v.Partition {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is the image of a partition, without partition table and boot loader, and the release has no kernel; "+
		"give one with --kernel FILE --initrd FILE (and --append 'root=… ro')", ErrNotBootable, path.Base(m.Drives[0].Path))
}

func (m *Machine) note(format string, args ...any) {
	m.Notes = append(m.Notes, oneLine(fmt.Sprintf(format, args...)))
}
