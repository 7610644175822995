package xvm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Limits of a description.
const (
	MaxDescriptionSize = 1 << 20 // bytes of the document
	maxXMLDepth        = 64      // elements within each other
	maxXMLNodes        = 20000   // elements and attributes
	maxDrives          = 256
	maxNICs            = 64
	maxMemoryMiB       = 16 << 20 // 16 TiB
	maxCPUs            = 4096
)

// ErrDescription is wrapped by every error of [ParseDescription].
var ErrDescription = errors.New("bad description")

// Description is what xvm.xml, description.xml or an OVF descriptor tells of a
// machine, as far as anything reads it. All of it comes from a stranger and has
// been cut down to plain values: short text without control characters, names from closed lists,
// numbers within limits. What does not fit is left out and, if it was more than
// unknown, noted in Warnings.
//
// File names are names only: they may lead nowhere else than into the package,
// and count only if the package has a member of that name. Emulators, command
// lines of the emulator, host devices and paths of the host never appear.
type Description struct {
	Kind      string // "xvm", "libvirt", "ovf" or "xva": what the document was
	MemoryMiB int    // 0: not said
	CPUs      int    // 0: not said
	Arch      string // "x86_64", "i686", "aarch64", …; "" when not said or not known
	Firmware  string // "bios", "uefi" or "" when not said
	Machine   string // "hvm", "pv" or "pvh" (Xen guests without emulated hardware) or ""
	Kernel    string // file for direct boot, or ""
	Ramdisk   string // file, or ""
	Cmdline   string // of the kernel; printable, one line
	Drives    []Drive
	NICs      []string // models: "virtio", "e1000", …, or ""; one for each network interface
	Warnings  []string // what was dangerous or out of range and therefore left out
}

// Drive is a disk, a CD-ROM or a floppy.
type Drive struct {
	File     string // of the package, as stored or with its compression suffix removed
	Target   string // "vda", "hda", "xvda1", … or ""
	Bus      string // "virtio", "ide", "scsi", "sata", "usb", "xen", "nvme", "fdc", "sd" or ""
	CDROM    bool
	Floppy   bool
	ReadOnly bool
	Boot     int // 1 for the drive to boot from, 2 for the next, …; 0 when not said
}

// ParseDescription reads xvm.xml, a libvirt domain, an OVF descriptor or the
// ova.xml of an XVA archive, told apart by the root element. A DOCTYPE, more than 1
// MiB, 64 levels or 20 000 elements and attributes refuse the document, with an
// error that wraps [ErrDescription].
//
// What a document may do to a host decides what is read of it (C4, T18, F1, F2,
// F6). Files are names of members: of a path of the host the last component is left,
// and "..", ":" and "\" are refused. Targets, buses, models and architectures come
// from closed lists. Text loses control and bidirectional characters. Emulators,
// their command lines, loaders, host devices and shared directories are left out,
// and Warnings says so.
//
// Two ways in which OVF stores a file are not undone: ovf:compression under a name
// without suffix, and ovf:chunkSize. Such members are shown as they are stored, and
// Warnings says so.
func ParseDescription(b []byte) (*Description, error) {
	root, err := parseXML(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrDescription, err)
	}
	d := &Description{}
	switch strings.ToLower(root.name) {
	case "domain":
		d.Kind = "libvirt"
		d.fromLibvirt(root)
	case "envelope":
		d.Kind = "ovf"
		d.fromOVF(root)
	case "value":
		d.Kind = "xva"
		d.fromXVA(root)
	case "html", "rss", "feed":
		return nil, fmt.Errorf("%w: it is <%s>, no machine", ErrDescription, root.name)
	default:
		d.Kind = "xvm"
		d.fromXVM(root)
	}
	return d, nil
}

func (d *Description) warn(format string, args ...any) {
	w := cleanText(fmt.Sprintf(format, args...), 300)
	if len(d.Warnings) < 100 && !slices.Contains(d.Warnings, w) {
		d.Warnings = append(d.Warnings, w)
	}
}

func (d *Description) addDrive(v Drive) {
	if v.File == "" || slices.ContainsFunc(d.Drives, func(o Drive) bool { return o.File == v.File }) {
		return // elements of the same file within each other are one drive
	}
	if len(d.Drives) == maxDrives {
		d.warn("more than %d drives", maxDrives)
		return
	}
	d.Drives = append(d.Drives, v)
}

func (d *Description) addNIC(model string) {
	if len(d.NICs) == maxNICs {
		d.warn("more than %d network interfaces", maxNICs)
		return
	}
	d.NICs = append(d.NICs, cleanNICModel(model))
}
