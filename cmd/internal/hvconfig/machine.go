package hvconfig

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

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

	AllowExternal bool // images may name other files
	Joined        Joined
}

// File is what is known of a file of the release.
type File struct {
	Name string // path in the release
	Size int64
	Disk xvm.Disk
	Boot bool // its first sector ends in the boot signature, 55 aa
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

// Drive is one of its drives.
type Drive struct {
	Path      string
	Format    string // QEMU's name of the driver
	Target    string // as described: "xvda1"; may be ""
	Bus       string // virtio, ide, sata, scsi, usb or fdc
	CDROM     bool
	Floppy    bool
	Partition bool   // no boot loader, no partition table
	Order     int    // in which to boot from it, from 1; 0: not
	Overlay   string // path of the overlay that is attached instead; "": none

	parts []part // of a drive that is made of partition images
}

// ErrNotBootable is wrapped when nothing in the release can be booted.
var ErrNotBootable = errors.New("cannot boot by itself")

// metaSuffixes are those of files that are no images.
var metaSuffixes = []string{".xml", ".txt", ".asc", ".sig", ".mf", ".ovf", ".cert", ".html", ".sidecar", ".md", ".nvram"}

// Choose lists the drives: those of the description, else all images. names
// are the files of the release, sorted; exists also knows plain names that a
// listing does not show yet. A drive that is not there is an error, or a note
// if it is no disk.
func Choose(d *xvm.Description, names []string, exists func(string) bool) (drives []xvm.Drive, notes []string, err error) {
	for _, v := range d.Drives {
		file, ok := resolve(v.File, exists)
		switch {
		case ok:
			v.File = file
			drives = append(drives, v)
		case v.CDROM || v.Floppy:
			notes = append(notes, fmt.Sprintf("the description names %q, which the release does not have", v.File))
		default:
			return nil, nil, fmt.Errorf("the description names the disk %q, which the release does not have", v.File)
		}
	}
	if len(drives) > 0 {
		return drives, notes, nil
	}
	for _, name := range names {
		if slices.Contains(metaSuffixes, strings.ToLower(path.Ext(name))) || name == d.Kernel || name == d.Ramdisk {
			continue
		}
		if file, ok := resolve(name, exists); ok && !slices.ContainsFunc(drives, func(v xvm.Drive) bool { return v.File == file }) {
			drives = append(drives, xvm.Drive{File: file})
		}
	}
	if len(drives) == 0 {
		return nil, nil, fmt.Errorf("%w: the release holds no disk image", ErrNotBootable)
	}
	if len(drives) > maxDrives {
		return nil, nil, fmt.Errorf("the release holds %d images and no description says which are drives", len(drives))
	}
	return drives, notes, nil
}

const maxDrives = 24 // as many as have a name of one letter

// resolve prefers the plain content of a compressed file.
func resolve(name string, exists func(string) bool) (string, bool) {
	switch ext := path.Ext(name); ext {
	case ".gz", ".xz", ".zst", ".bz2":
		if plain := strings.TrimSuffix(name, ext); exists(plain) {
			return plain, true
		}
	}
	return name, name != "" && exists(name)
}

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
		Name: machineName(o.Name), MemoryMiB: d.MemoryMiB, CPUs: max(d.CPUs, 1), UEFI: d.Firmware == "uefi", PV: d.Machine == "pv",
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
	for _, n := range d.NICs {
		m.NICs = append(m.NICs, n.Model)
	}
	return m, m.bootable()
}

func (m *Machine) addDrives(drives []xvm.Drive, files map[string]File, o Options) error {
	if len(drives) > maxDrives {
		return fmt.Errorf("the machine has %d drives; at most %d are possible here", len(drives), maxDrives)
	}
	ordered := slices.ContainsFunc(drives, func(v xvm.Drive) bool { return v.Boot > 0 })
	overlays := make(map[string]bool)
	for i, v := range drives {
		f, ok := files[v.File]
		if !ok {
			return fmt.Errorf("nothing is known of %q", v.File)
		}
		switch f.Disk.Format {
		case "gzip", "xz", "zstd", "bzip2":
			return fmt.Errorf("%s is compressed (%s) and its plain content is not in the directory: give the path in a mount of vmcastfs", f.Name, f.Disk.Format)
		}
		if len(f.Disk.External) > 0 && !o.AllowExternal {
			return fmt.Errorf("%s names another file, %s, which a hypervisor would open on this host; refused", f.Name, f.Disk.External[0])
		}
		format := f.Disk.QEMUDriver()
		if format == "luks" {
			format = "raw" // it is the guest that has the key
		}
		drive := Drive{
			Path: filepath.Join(o.Dir, filepath.FromSlash(f.Name)), Format: format, Target: v.Target,
			Bus: m.bus(v), CDROM: v.CDROM || f.Disk.Kind == "iso9660" && v.Target == "" && v.Bus == "", Floppy: v.Floppy,
			Partition: isPartition(f), Order: v.Boot,
		}
		if drive.CDROM {
			drive.Bus = m.cdBus(drive.Bus)
		}
		if err := printable(drive.Path); err != nil {
			return err
		}
		if !ordered {
			drive.Order = i + 1
		}
		if o.Overlay != "" && !drive.CDROM && !drive.Floppy && !v.ReadOnly {
			base := machineName(m.Name + "-" + strings.TrimSuffix(path.Base(f.Name), path.Ext(f.Name)))
			for n := 2; overlays[base]; n++ {
				base = fmt.Sprintf("%s-%d", strings.TrimSuffix(base, fmt.Sprintf("-%d", n-1)), n)
			}
			overlays[base] = true
			drive.Overlay = filepath.Join(o.Overlay, base+".qcow2")
		}
		m.Drives = append(m.Drives, drive)
	}
	return nil
}

// isPartition tells an image that begins with a file system and has no boot
// sector.
func isPartition(f File) bool {
	if f.Disk.Format != "raw" || f.Boot {
		return false
	}
	switch f.Disk.Kind {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "squashfs", "f2fs", "lvm":
		return true
	}
	return false
}

// bus is where the drive is attached: as described, else as its target's name
// tells, else virtio.
func (m *Machine) bus(v xvm.Drive) string {
	if v.Floppy {
		return "fdc"
	}
	bus := v.Bus
	if partition := strings.TrimRight(v.Target, "0123456789") != v.Target; bus == "" && !partition {
		switch {
		case strings.HasPrefix(v.Target, "hd"):
			bus = "ide"
		case strings.HasPrefix(v.Target, "sd"):
			bus = "sata"
		}
	}
	switch bus {
	case "ide", "sata", "scsi", "usb":
		if m.Arch == "aarch64" && bus != "usb" {
			return "scsi"
		}
		return bus
	}
	return "virtio"
}

func (m *Machine) cdBus(bus string) string {
	switch {
	case m.Arch == "aarch64":
		return "scsi"
	case bus == "virtio":
		return "sata"
	}
	return bus
}

// addKernel takes the administrator's kernel, else the package's if it is one
// of its files.
func (m *Machine) addKernel(d *xvm.Description, exists func(string) bool, o Options) {
	m.cmdline = d.Cmdline
	if o.Append != "" {
		m.cmdline, m.fixed = o.Append, true
	}
	if o.Kernel != "" {
		m.Kernel, m.Ramdisk = o.Kernel, o.Ramdisk
		return
	}
	if d.Kernel == "" {
		return
	}
	if !exists(d.Kernel) {
		m.note("the kernel %q is no file of the release and is ignored", d.Kernel)
		return
	}
	m.Kernel = filepath.Join(o.Dir, filepath.FromSlash(d.Kernel))
	if d.Ramdisk == "" {
		return
	}
	if !exists(d.Ramdisk) {
		m.note("the ramdisk %q is no file of the release and is ignored", d.Ramdisk)
		return
	}
	m.Ramdisk = filepath.Join(o.Dir, filepath.FromSlash(d.Ramdisk))
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

// commandLine is the kernel's command line in a guest that sees the drives under
// the names given, one for each. A root= that means a drive by its described
// name is rewritten; if there is none and the first drive is a partition, it is
// the root.
func (m *Machine) commandLine(devices []string) string {
	if m.fixed || len(m.Drives) == 0 {
		return m.cmdline
	}
	words := strings.Fields(m.cmdline)
	has := false
	for i, w := range words {
		if root, ok := strings.CutPrefix(w, "root="); ok {
			has = true
			if dev, ok := strings.CutPrefix(root, "/dev/"); ok {
				words[i] = "root=/dev/" + m.rename(dev, devices)
			}
		}
	}
	root := m.Drives[0].root(devices[0])
	if m.Drives[0].Partition {
		root = devices[0]
	}
	if !has && root != "" {
		words = append(words, "root=/dev/"+root)
		if !slices.Contains(words, "rw") && !slices.Contains(words, "ro") {
			words = append(words, "ro")
		}
	}
	return strings.Join(words, " ")
}

// rename translates the described name of a drive, or of a partition of one.
func (m *Machine) rename(dev string, devices []string) string {
	for i, v := range m.Drives {
		if v.Target != "" && v.Target == dev {
			return devices[i]
		}
		for _, p := range v.parts {
			if p.target != "" && p.target == dev {
				return fmt.Sprint(devices[i], p.number)
			}
		}
	}
	disk := strings.TrimRight(dev, "0123456789")
	for i, v := range m.Drives {
		if v.Target != "" && v.Target == disk && !v.Partition {
			return devices[i] + dev[len(disk):]
		}
	}
	return dev
}

// linuxNames are the names under which a Linux guest finds the drives of a
// machine of QEMU's.
func (m *Machine) linuxNames(bus func(Drive) string) []string {
	names := make([]string, len(m.Drives))
	count := make(map[string]int)
	for i, v := range m.Drives {
		prefix := "sd"
		switch {
		case v.CDROM:
			names[i] = fmt.Sprintf("sr%d", count["sr"])
			count["sr"]++
			continue
		case v.Floppy:
			names[i] = fmt.Sprintf("fd%d", count["fd"])
			count["fd"]++
			continue
		case bus(v) == "virtio":
			prefix = "vd"
		}
		names[i] = prefix + letter(count[prefix])
		count[prefix]++
	}
	return names
}

func letter(i int) string { return string(rune('a' + i)) }

// overlayCommand is the line that makes a drive's overlay.
func (v Drive) overlayCommand() string {
	return strings.Join([]string{
		"qemu-img create -q -f qcow2 -F", v.Format, "-b", shellWord(v.Path), shellWord(v.Overlay),
	}, " ")
}

// machineName keeps what every hypervisor takes for a name.
func machineName(s string) string {
	name := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._+-", r)) {
			return r
		}
		return '_'
	}, s)
	name = strings.TrimLeft(name, "-.")
	if name == "" {
		name = "vm"
	}
	return name[:min(len(name), 200)]
}

// printable refuses what cannot be written on a line.
func printable(s string) error {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl) {
		return fmt.Errorf("%q has characters that do not print", s)
	}
	return nil
}

// oneLine makes a text fit for a comment.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}
