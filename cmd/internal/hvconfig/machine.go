package hvconfig

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

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
	Type    string // of a Xen guest: "pv", "pvh" or "hvm"; "": as described
	KVM     bool   // hardware virtualization may be used
	VNC     bool   // the guest has a display, which VNC shows on this machine only
	Secret  string // absolute path of a file with the passphrase of encrypted images; "": none

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
	Type      string // of a Xen guest: "hvm", "pv", "pvh" (both without emulated hardware) or ""
	Kernel    string
	Ramdisk   string
	Drives    []Drive
	NICs      []string // models, "" for the usual one
	Notes     []string // for people, one line each

	dir     string
	network string
	kvm     bool
	vnc     bool
	secret  string
	cmdline string
	fixed   bool // cmdline is the administrator's: left as it is

	joinedDrive Drive // stands for the drives with these numbers, for whom single asks
	joinedParts []int
	joinedSwap  bool // one of them is swap
}

// ErrNotBootable is wrapped when nothing in the release can be booted.
var ErrNotBootable = errors.New("cannot boot by itself")

// New plans the machine. drives are what [Choose] returned, and files has an
// entry for each of them.
func New(d *xvm.Description, drives []xvm.Drive, files map[string]File, exists func(string) bool, o Options) (*Machine, error) {
	for _, p := range []string{o.Dir, o.Overlay, o.Kernel, o.Ramdisk, o.Secret} {
		if p != "" && !filepath.IsAbs(p) {
			return nil, fmt.Errorf("%q is no absolute path", p)
		}
	}
	for _, s := range []string{o.Dir, o.Overlay, o.Kernel, o.Ramdisk, o.Secret, o.Append, o.Network, o.Name} {
		if err := printable(s); err != nil {
			return nil, err
		}
	}
	m := &Machine{
		Name: machineName(o.Name), MemoryMiB: cmp.Or(o.MemoryMiB, d.MemoryMiB), CPUs: max(cmp.Or(o.CPUs, d.CPUs), 1), UEFI: d.Firmware == "uefi", Type: cmp.Or(o.Type, d.Machine),
		dir: o.Dir, network: o.Network, kvm: o.KVM, vnc: o.VNC, secret: o.Secret,
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
		m.Arch = d.Arch
	default:
		return nil, fmt.Errorf("the machine is an %s: only x86 and aarch64 are known here", d.Arch)
	}
	m.addKernel(d, exists, o)
	if err := m.addDrives(drives, files, o); err != nil {
		return nil, err
	}
	if err := m.join(drives, o); err != nil {
		return nil, err
	}
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
		if !v.Partition && v.Kind != "luks" {
			return nil
		}
	}
	v := m.Drives[max(m.rootDrive(), 0)]
	if v.Kind == "luks" {
		return fmt.Errorf("%w: %s is a LUKS container, which has no boot loader, and the release has no kernel: config qemu unlocks it with --secret FILE, "+
			"which holds the passphrase; a guest unlocks it with --kernel FILE --initrd FILE", ErrNotBootable, path.Base(v.Path))
	}
	for _, d := range m.Drives {
		if strings.HasPrefix(path.Base(d.Path), "boot") {
			v = d
		}
	}
	return fmt.Errorf("%w: %s is the image of a partition, without partition table and boot loader, and the release has no kernel; "+
		"give one with --kernel FILE --initrd FILE (and --append 'root=… ro'). This takes them out of the image, by a tool of %s:\n  %s",
		ErrNotBootable, path.Base(v.Path), map[bool]string{true: "e2fsprogs", false: "libguestfs"}[v.isExt()], v.takeKernel(m.Name))
}

func (v Drive) isExt() bool { return strings.HasPrefix(v.Kind, "ext") }

// takeKernel is a line for sh that copies the kernels and ramdisks in an image of a
// partition to the directory to, and names the newest as options of config. The image
// is a stranger's: a file in it decides no path here, as it would by rdump.
func (v Drive) takeKernel(to string) string {
	get := fmt.Sprintf("virt-get-kernel --format %s -a %s -o %s", v.Format, ShellWord(v.Path), to)
	if v.isExt() {
		get = fmt.Sprintf(`printf 'ls -p /boot\nls -p /\n' | debugfs -f - %[1]s | `+
			`awk -F/ '$3~/^10/&&$6~/^(vmlinu|initr)[-+._~a-zA-Z0-9]*$/{print "dump <"$2"> %[2]s/"$6}' | debugfs -f - %[1]s`, ShellWord(v.Path), to)
	}
	newest := func(name string) string { return fmt.Sprintf("$(ls -v %s/%s* | tail -n 1)", to, name) }
	return fmt.Sprintf("mkdir -p %s && %s && echo --kernel %s --initrd %s", to, get, newest("vmlinu"), newest("initr"))
}

// head is the comment before a command or a configuration.
func (m *Machine) head(b *strings.Builder, note string) {
	fmt.Fprintf(b, "# %s, from %s\n", m.Name, m.dir)
	for _, n := range append(slices.Clip(m.Notes), note) {
		if n != "" {
			remark(b, "# ", n)
		}
	}
}

func (m *Machine) note(format string, args ...any) {
	m.Notes = append(m.Notes, oneLine(fmt.Sprintf(format, args...)))
}
