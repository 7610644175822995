package hvconfig

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// xenTarget are names of which Xen has numbers: the letter of the disk and the
// partition, under the name xvd. Linux calls a disk that is attached as sda xvda,
// too, since its kernels run under Xen as they are.
var xenTarget = regexp.MustCompile(`^(?:xvd|sd|hd)([a-p])((?:[1-9]|1[0-5])?)$`)

// XL is a configuration file for xl create.
func (m *Machine) XL() (string, error) {
	if m.Arch != "x86_64" {
		return "", fmt.Errorf("config xl knows x86 only, and the machine is an %s", m.Arch)
	}
	partitions := false
	for _, v := range m.Drives {
		partitions = partitions || v.Partition
	}
	if err := m.noSecret("xl"); err != nil {
		return "", err
	}
	kind, console := "hvm", "ttyS0"
	if m.Kernel != "" && (partitions || m.Type != "") {
		if kind = cmp.Or(m.Type, "pv"); kind != "hvm" {
			console = "hvc0"
		}
	}
	targets, err := m.xenTargets(kind)
	if err != nil {
		return "", err
	}
	devices := make([]string, len(targets)) // a guest of HVM has the drivers of Xen, too, which leave out the emulated disks
	for i, t := range targets {
		devices[i] = "xvd" + strings.TrimPrefix(strings.TrimPrefix(t, "xvd"), "sd")
	}

	var b strings.Builder
	line, note := m.commandLine(devices, console)
	m.head(&b, note)
	if kind == "hvm" && m.Type != "hvm" && m.Type != "" {
		remark(&b, "# ", "The description says that the guest is paravirtualized, but the release has no kernel; it boots as any PC does.")
	}
	if kind == "pv" {
		b.WriteString("# --type pvh is better for a kernel of Linux 4.11 and later.\n")
	}
	lines := m.overlayLines()
	if len(lines) > 0 {
		b.WriteString("# These lines make the overlays:\n")
	}
	for _, line := range lines {
		b.WriteString("#   " + line + "\n")
	}
	if len(m.Attached(true)) == 0 {
		b.WriteString("# The disks are read-only. For a guest that writes, give --overlay DIR.\n")
	}
	str := func(name, value string) { fmt.Fprintf(&b, "%s = %s\n", name, xlString(value)) }
	str("name", m.Name)
	str("type", kind)
	fmt.Fprintf(&b, "memory = %d\nvcpus = %d\n", m.MemoryMiB, m.CPUs)
	if m.Kernel != "" {
		str("kernel", m.Kernel)
		if m.Ramdisk != "" {
			str("ramdisk", m.Ramdisk)
		}
		if line != "" && m.Kernel != "" {
			str("cmdline", line)
		}
	}
	if kind == "hvm" {
		if m.Kernel == "" {
			str("boot", m.xlBoot())
		}
		if m.UEFI {
			str("bios", "ovmf")
		}
		str("serial", "pty") // xl console shows it
		b.WriteString("vnc = " + map[bool]string{true: "1\nvnclisten = \"127.0.0.1\"", false: "0"}[m.vnc] + "\n")
	}
	b.WriteString("disk = [\n")
	for i, v := range m.Drives {
		if v.Floppy {
			fmt.Fprintf(&b, "  # no floppy: %s\n", oneLine(v.Path))
			continue
		}
		if v.leftOut() {
			fmt.Fprintf(&b, "  # %s\n", oneLine(v.leftOutNote()))
			continue
		}
		spec, err := xlDisk(v, targets[i])
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "  %s,\n", xlString(spec))
	}
	b.WriteString("]\n")
	switch {
	case len(m.NICs) == 0:
	case m.network == "":
		remark(&b, "# ", "No network: xl would attach the guest to the default bridge. --network BRIDGE names one.")
	case strings.ContainsAny(m.network, ",="):
		return "", fmt.Errorf("the bridge %q has a name that xl cannot take", m.network)
	default:
		b.WriteString("vif = [\n")
		for _, model := range m.NICs {
			spec := "bridge=" + m.network
			if q := m.qemuNIC(model); kind == "hvm" && q != "virtio-net-pci" {
				spec += ",model=" + q
			}
			fmt.Fprintf(&b, "  %s,\n", xlString(spec))
		}
		b.WriteString("]\n")
	}
	return b.String(), nil
}

// noSecret refuses encrypted images where there is no option for their passphrase.
func (m *Machine) noSecret(form string) error {
	for _, v := range m.Drives {
		if v.Encrypted == "" {
			continue
		}
		_, secret, _ := strings.Cut(v.secretOptions(""), ",")
		return fmt.Errorf("%s is encrypted (%s), and config %s cannot give a passphrase: config qemu --secret FILE can. "+
			"Or make a copy that is not encrypted, where FILE holds the passphrase:\n"+
			"  qemu-img convert --object secret,id=key,file=FILE --image-opts %s -O qcow2 COPY",
			path.Base(v.Path), v.Encrypted, form, ShellWord(fmt.Sprintf("driver=%s,file.filename=%s,%s", v.Format, commas(v.Path), secret)))
	}
	return nil
}

// xlDisk is a disk specification. The target comes last: xl takes all that
// follows for the path.
func xlDisk(v Drive, target string) (string, error) {
	format, access, file := v.Format, "ro", v.Path
	if v.Overlay != "" {
		format, access, file = v.overlayFormat(), "rw", v.Overlay
	}
	switch format {
	case "vpc":
		format = "vhd"
	case "raw", "qcow2", "qcow", "qed":
	default:
		return "", fmt.Errorf("xl cannot open %s, which is a %s: with --overlay DIR it is opened through a qcow2 overlay", v.Path, format)
	}
	spec := fmt.Sprintf("format=%s, vdev=%s, access=%s, ", format, target, access)
	if v.CDROM {
		spec += "devtype=cdrom, "
	}
	if strings.HasSuffix(file, ",") || strings.TrimSpace(file) != file {
		return "", fmt.Errorf("the path %q ends in a way that xl cannot take", file)
	}
	return spec + "target=" + file, nil
}

// xenTargets names the drives as the guest finds them: with the described letters
// where there are any, partitions as partitions of xvda. The emulated SCSI disks of
// a PC can be read-only, its IDE disks cannot.
func (m *Machine) xenTargets(kind string) ([]string, error) {
	targets := make([]string, len(m.Drives))
	used := make(map[string]bool)
	for i, v := range m.Drives {
		is := xenTarget.FindStringSubmatch(v.Target)
		if kind == "hvm" || is == nil || (is[2] != "") != v.Partition || v.CDROM {
			continue
		}
		if t := "xvd" + is[1] + is[2]; !used[t] {
			targets[i] = t
			used[t], used["xvd"+is[1]], used[is[1]] = true, true, true
		}
	}
	take := func(prefix, letters string) string {
		for _, l := range letters {
			if t := prefix + string(l); !used[string(l)] && !used[t] {
				used[t], used[string(l)] = true, true
				return t
			}
		}
		return ""
	}
	for i, v := range m.Drives {
		if v.CDROM && kind == "hvm" { // on IDE, which has four places
			targets[i] = take("hd", "cdba")
		}
	}
	base, partition := "", 0
	for i, v := range m.Drives {
		prefix := "xvd"
		switch {
		case targets[i] != "" || v.CDROM && kind == "hvm" || v.Floppy:
			continue
		case v.Partition && kind != "hvm":
			if base == "" || partition == 15 {
				base, partition = take(prefix, disks), 0
			}
			partition++
			if base != "" {
				targets[i] = fmt.Sprint(base, partition)
			}
			continue
		case kind == "hvm" && v.Overlay == "":
			prefix = "sd"
		}
		targets[i] = take(prefix, disks)
	}
	for i, t := range targets {
		if t == "" && !m.Drives[i].Floppy {
			return nil, fmt.Errorf("the machine has more drives than xl can attach")
		}
	}
	return targets, nil
}

// disks are the letters that disks of Xen may have.
const disks = "abcdefghijklmnop"

// xlBoot is the order of kinds of drives: c is a disk, d a CD.
func (m *Machine) xlBoot() string {
	disk, cd := 1<<30, 1<<30
	for _, v := range m.Drives {
		switch {
		case v.Order == 0 || v.Floppy:
		case v.CDROM:
			cd = min(cd, v.Order)
		default:
			disk = min(disk, v.Order)
		}
	}
	if cd < disk {
		return "dc"
	}
	return "cd"
}
