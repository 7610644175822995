package hvconfig

import (
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

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
		if xvm.NoDisk(name) || name == d.Kernel || name == d.Ramdisk {
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
	if format, plain := seekable.PlainName(name); format != "" && exists(plain) {
		return plain, true
	}
	return name, name != "" && exists(name)
}

// File is what is known of a file of the release.
type File struct {
	Name string // path in the release
	Disk xvm.Disk
	Boot bool // its first sector ends in the boot signature, 55 aa
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
	Kind      string // of file system, of a partition
	Swap      bool
	Encrypted string // how, if QEMU needs a passphrase for it, or is given one for a LUKS container; ""
	Order     int    // in which to boot from it, from 1; 0: not
	Overlay   string // path of the overlay that is attached instead; "": none
	made      string // as Options.Made

	parts []part // of a drive that is made of partition images
}

// IsPartition tells the image of a partition: it begins with a file system and has
// no boot sector. One that is described as a partition is taken for it, unless it
// shows to be a whole disk. What a qcow2 or the like holds is not looked at.
func IsPartition(v xvm.Drive, f File) bool {
	told := strings.TrimRight(v.Target, "0123456789") != v.Target
	if f.Disk.Format != "raw" || f.Boot {
		return told && (f.Disk.Format != "raw" || f.Disk.Kind != "mbr" && f.Disk.Kind != "gpt" && f.Disk.Kind != "iso9660")
	}
	switch f.Disk.Kind {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "squashfs", "f2fs", "lvm":
		return true
	case "mbr", "gpt", "iso9660":
		return false
	}
	return told
}

// isSwap tells swap by its content, and by its name where the format hides that.
func isSwap(f File) bool {
	return f.Disk.Kind == "swap" || f.Disk.Format != "raw" && strings.HasPrefix(strings.ToLower(path.Base(f.Name)), "swap")
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
		if f.Disk.Compressed() {
			return fmt.Errorf("%s is compressed (%s) and its plain content is not in the directory: give the path in a mount of vmcastfs", f.Name, f.Disk.Format)
		}
		if len(f.Disk.External) > 0 && !o.AllowExternal {
			return fmt.Errorf("%s names another file, %s, which a hypervisor would open on this host; refused", f.Name, f.Disk.External[0])
		}
		if f.Disk.Dirty {
			return fmt.Errorf("%s has a log that has to be replayed (it was not closed cleanly), and QEMU does not open such an image read-only: "+
				"copy it to a local disk with cp, run `qemu-img check -r all COPY`, and boot from the copy", f.Name)
		}
		format, encrypted, kind := f.Disk.QEMUDriver(), f.Disk.Encrypted, f.Disk.Kind
		switch {
		case format == "luks" && o.Secret != "":
			encrypted = format
		case format == "luks":
			format, kind = "raw", "luks"
			m.note("%s is a LUKS container, which the guest unlocks; config qemu with the option secret lets QEMU do it", f.Name)
		}
		drive := Drive{
			Path: filepath.Join(o.Dir, filepath.FromSlash(f.Name)), Format: format, Target: v.Target,
			Bus: m.bus(v), CDROM: v.CDROM || f.Disk.Kind == "iso9660" && v.Target == "" && v.Bus == "", Floppy: v.Floppy,
			Partition: IsPartition(v, f), Kind: kind, Swap: IsPartition(v, f) && isSwap(f), Order: v.Boot, Encrypted: encrypted,
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
			drive.made = o.Made
			drive.Overlay = filepath.Join(o.Overlay, base+"."+drive.overlayFormat())
		}
		m.Drives = append(m.Drives, drive)
	}
	return nil
}

// bus is where the drive is attached: as described, else virtio, which every
// Linux knows and to which root= follows. An IDE disk that boots by itself may be
// of a guest that knows no other bus.
func (m *Machine) bus(v xvm.Drive) string {
	if v.Floppy {
		return "fdc"
	}
	bus := v.Bus
	if bus == "" && m.Kernel == "" && strings.HasPrefix(v.Target, "hd") {
		bus = "ide"
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

func letter(i int) string { return string(rune('a' + i)) }

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

// leftOut tells a drive that is of no use where it would be read-only.
func (v Drive) leftOut() bool { return v.Swap && v.Overlay == "" }

// leftOutNote says that of a drive.
func (v Drive) leftOutNote() string {
	return path.Base(v.Path) + " is left out: swap cannot be read-only; with an overlay it is attached"
}

// overlayLine is the line for sh that makes a drive's overlay, unless it is there.
func (v Drive) overlayLine() string {
	return fmt.Sprintf("[ -e %[1]s ] || qemu-img create -q -f qcow2 -F %[2]s -b %[3]s %[1]s", ShellWord(v.Overlay), v.Format, ShellWord(v.Path))
}

// overlayLines are those of all drives whose overlay is not made already.
func (m *Machine) overlayLines() (lines []string) {
	for _, v := range m.Drives {
		if v.Overlay != "" && v.made == "" {
			lines = append(lines, v.overlayLine())
		}
	}
	return lines
}

// Overlays are lines for sh that make the overlays which [Machine.XL], or the other
// forms, attach, where they are not there yet.
func (m *Machine) Overlays(xl bool) []string {
	if !xl {
		m = m.single(false)
	}
	return m.overlayLines()
}
