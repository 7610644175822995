package hvconfig

import (
	"fmt"
	"path"
	"strings"
)

// QEMU is a script for sh: a comment, what makes missing overlays, and the
// command. It can be given to eval.
func (m *Machine) QEMU() (string, error) {
	m = m.single(false)
	for _, v := range m.Drives {
		if v.Encrypted != "" && m.secret == "" {
			return "", fmt.Errorf("%s is encrypted (%s): QEMU needs its passphrase; name the file that holds it with --secret FILE", path.Base(v.Path), v.Encrypted)
		}
	}
	args, note, err := m.qemuArgs()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	m.head(&b, note)
	lines := m.overlayLines()
	for _, line := range lines {
		b.WriteString("{ " + line + "; } &&\n")
	}
	if len(m.Attached(true)) == 0 {
		b.WriteString("# What the guest writes is lost at its end; --overlay DIR keeps it.\n")
	}
	for i, group := range args {
		if i > 0 {
			b.WriteString(" \\\n  ")
		}
		for j, arg := range group {
			if j > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(ShellWord(arg))
		}
	}
	b.WriteByte('\n')
	return b.String(), nil
}

// qemuArgs is the command, in groups that belong on one line, and a note on it.
func (m *Machine) qemuArgs() (args [][]string, note string, err error) {
	args = [][]string{{"qemu-system-" + m.Arch}, {"-name", commas(m.Name)}}
	if m.kvm {
		args = append(args, []string{"-accel", "kvm", "-accel", "tcg", "-cpu", "max"})
	} else {
		args = append(args, []string{"-accel", "tcg", "-cpu", "max"})
	}
	if m.Arch == "aarch64" {
		args = append(args, []string{"-machine", "virt"})
	}
	args = append(args, []string{"-m", fmt.Sprint(m.MemoryMiB), "-smp", fmt.Sprint(m.CPUs)})
	switch {
	case m.Kernel != "":
		args = append(args, []string{"-kernel", m.Kernel})
		if m.Ramdisk != "" {
			args = append(args, []string{"-initrd", m.Ramdisk})
		}
		line := ""
		if line, note = m.commandLine(m.linuxNames(func(v Drive) string { return v.Bus }), m.serial()); line != "" {
			args = append(args, []string{"-append", line})
		}
	case m.Arch == "aarch64":
		args = append(args, []string{"-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"}) // Debian's qemu-efi-aarch64
	case m.UEFI:
		args = append(args, []string{"-bios", "/usr/share/ovmf/OVMF.fd"}) // Debian's ovmf
	}
	if m.secret != "" {
		args = append(args, []string{"-object", "secret,id=key,file=" + commas(m.secret)})
	}
	args = append(args, m.controllers()...)
	units := make(map[string]int)
	for i, v := range m.Drives {
		drive := fmt.Sprintf("file=%s,format=%s,if=none,id=drive%d", commas(v.Path), v.Format, i)
		switch {
		case v.Overlay != "":
			drive = fmt.Sprintf("file=%s,format=%s,if=none,id=drive%d", commas(v.Overlay), v.overlayFormat(), i)
			if v.made == MadeCopy {
				drive += v.secretOptions("")
			} else {
				drive += v.secretOptions("backing.")
			}
		case v.CDROM:
			drive += ",readonly=on,media=cdrom"
		case v.Floppy:
			drive += ",readonly=on"
		default:
			drive += ",snapshot=on" + v.secretOptions("")
		}
		device, err := m.qemuDevice(v, units[v.Bus])
		if err != nil {
			return nil, "", err
		}
		units[v.Bus]++
		device += fmt.Sprintf(",drive=drive%d", i)
		if v.Order > 0 && !v.Floppy {
			device += fmt.Sprintf(",bootindex=%d", v.Order)
		}
		args = append(args, []string{"-drive", drive}, []string{"-device", device})
	}
	for i, model := range m.NICs {
		backend := fmt.Sprintf("user,id=net%d", i)
		if m.network != "" {
			backend = fmt.Sprintf("bridge,id=net%d,br=%s", i, commas(m.network))
		}
		args = append(args, []string{"-netdev", backend}, []string{"-device", m.qemuNIC(model) + fmt.Sprintf(",netdev=net%d", i)})
	}
	if len(m.NICs) == 0 {
		args = append(args, []string{"-nic", "none"})
	}
	if m.vnc {
		return append(args, []string{"-vnc", "127.0.0.1:0,to=99", "-serial", "mon:stdio"}), note, nil
	}
	return append(args, []string{"-nographic"}), note, nil
}

// secretOptions give an encrypted image its passphrase. prefix names the node of it.
func (v Drive) secretOptions(prefix string) string {
	switch {
	case v.Encrypted == "":
		return ""
	case v.Format == "luks":
		return "," + prefix + "key-secret=key"
	}
	return fmt.Sprintf(",%[1]sencrypt.format=%[2]s,%[1]sencrypt.key-secret=key", prefix, v.Encrypted)
}

// serial is the guest's name of its first serial line.
func (m *Machine) serial() string {
	if m.Arch == "aarch64" {
		return "ttyAMA0"
	}
	return "ttyS0"
}

// controllers are those that the drives need beside what the machine has.
func (m *Machine) controllers() [][]string {
	var args [][]string
	for _, c := range []struct{ bus, device string }{
		{"sata", "ahci,id=sata0"}, {"scsi", "virtio-scsi-pci,id=scsi0"}, {"usb", "qemu-xhci,id=usb0"},
	} {
		for _, v := range m.Drives {
			if v.Bus == c.bus {
				args = append(args, []string{"-device", c.device})
				break
			}
		}
	}
	return args
}

// qemuDevice is the unit-th drive of its bus.
func (m *Machine) qemuDevice(v Drive, unit int) (string, error) {
	medium := "hd"
	if v.CDROM {
		medium = "cd"
	}
	most, device := maxDrives, ""
	switch v.Bus {
	case "ide":
		most, device = 4, fmt.Sprintf("ide-%s,bus=ide.%d,unit=%d", medium, unit/2, unit%2)
	case "sata":
		most, device = 6, fmt.Sprintf("ide-%s,bus=sata0.%d", medium, unit)
	case "scsi":
		device = fmt.Sprintf("scsi-%s,bus=scsi0.0", medium)
	case "usb":
		most, device = 4, "usb-storage,bus=usb0.0"
	case "fdc":
		most, device = 2, fmt.Sprintf("floppy,unit=%d", unit)
	default:
		device = "virtio-blk-pci"
	}
	if unit >= most {
		return "", fmt.Errorf("the machine has more than %d drives on %s", most, v.Bus)
	}
	return device, nil
}

// qemuNIC is QEMU's name of a network card.
func (m *Machine) qemuNIC(model string) string {
	switch model {
	case "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3":
		return model
	}
	return "virtio-net-pci"
}
