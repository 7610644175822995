package hvconfig

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"slices"
	"strings"

	lv "libvirt.org/go/libvirtxml"
)

// emptyElement matches from the end of the start tag of an element without
// content; in all others text or a line break comes first.
var emptyElement = regexp.MustCompile(`></[A-Za-z]+>`)

// Libvirt is the domain, as virsh define and virsh create take it.
func (m *Machine) Libvirt() (string, error) {
	m = m.single(true)
	one := *m // without the drives that are left out, which get no names
	one.Notes, one.Drives = slices.Clone(m.Notes), nil
	for _, v := range m.Drives {
		if v.leftOut() {
			one.Notes = append(one.Notes, v.leftOutNote())
		} else {
			one.Drives = append(one.Drives, v)
		}
	}
	m = &one
	if err := m.noSecret("libvirt"); err != nil {
		return "", err
	}
	pty := &lv.DomainChardevSource{Pty: &lv.DomainChardevSourcePty{}}
	d := lv.Domain{
		Type: "qemu", Name: m.Name,
		Memory: &lv.DomainMemory{Unit: "MiB", Value: uint(m.MemoryMiB)}, VCPU: &lv.DomainVCPU{Value: uint(m.CPUs)},
		OS:  &lv.DomainOS{Type: &lv.DomainOSType{Arch: m.Arch, Type: "hvm"}},
		CPU: &lv.DomainCPU{Mode: "maximum"},
		Devices: &lv.DomainDeviceList{
			Serials:    []lv.DomainSerial{{Source: pty}},
			Consoles:   []lv.DomainConsole{{Source: pty}},
			MemBalloon: &lv.DomainMemBalloon{Model: "virtio"},
		},
	}
	if m.kvm {
		d.Type = "kvm"
	}
	if m.Kernel != "" {
		d.OS.Kernel, d.OS.Initrd = m.Kernel, m.Ramdisk
		line, note := m.commandLine(m.linuxNames(libvirtBus), m.serial())
		if d.OS.Cmdline = line; note != "" {
			m.Notes = append(m.Notes, note)
		}
	} else if m.UEFI || m.Arch == "aarch64" {
		d.OS.Firmware = "efi"
	}
	if m.Arch == "x86_64" {
		d.Features = &lv.DomainFeatureList{ACPI: &lv.DomainFeature{}, APIC: &lv.DomainFeatureAPIC{}}
	} else if d.OS.Firmware != "" {
		d.Features = &lv.DomainFeatureList{ACPI: &lv.DomainFeature{}}
	}
	if m.vnc {
		d.Devices.Graphics = []lv.DomainGraphic{{VNC: &lv.DomainGraphicVNC{Port: -1, AutoPort: "yes", Listen: "127.0.0.1"}}}
		d.Devices.Videos = []lv.DomainVideo{{Model: lv.DomainVideoModel{Type: "vga"}}}
	}
	notes := m.Notes
	count := make(map[string]int)
	for _, v := range m.Drives {
		bus := libvirtBus(v)
		if bus != v.Bus {
			notes = append(notes, fmt.Sprintf("%s drives cannot be read-only: attached as virtio; with an overlay it is as described", strings.ToUpper(v.Bus)))
		}
		prefix := map[string]string{"virtio": "vd", "ide": "hd", "fdc": "fd"}[bus]
		if prefix == "" {
			prefix = "sd"
		}
		d.Devices.Disks = append(d.Devices.Disks, libvirtDisk(v, prefix+letter(count[prefix]), bus))
		count[prefix]++
		if bus == "scsi" && len(d.Devices.Controllers) == 0 {
			d.Devices.Controllers = []lv.DomainController{{Type: "scsi", Model: "virtio-scsi"}}
		}
	}
	for _, model := range m.NICs {
		n := lv.DomainInterface{Source: &lv.DomainInterfaceSource{User: &lv.DomainInterfaceSourceUser{}}, Model: &lv.DomainInterfaceModel{Type: "virtio"}}
		if q := m.qemuNIC(model); q != "virtio-net-pci" {
			n.Model.Type = q
		}
		if m.network != "" {
			n.Source = &lv.DomainInterfaceSource{Network: &lv.DomainInterfaceSourceNetwork{Network: m.network}}
		}
		d.Devices.Interfaces = append(d.Devices.Interfaces, n)
	}
	raw, err := xml.MarshalIndent(d, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write domain: %w", err)
	}

	var b strings.Builder
	comment := func(s string) { fmt.Fprintf(&b, "  %s\n", splitDashes(s)) }
	b.WriteString("<!--\n")
	comment(m.Name + ", from " + m.dir)
	for _, n := range notes {
		remark(&b, "  ", splitDashes(n))
	}
	lines := m.overlayLines()
	if len(lines) > 0 {
		comment("These lines make the overlays:")
	}
	for _, line := range lines {
		comment("  " + line)
	}
	if len(m.Attached(true)) == 0 {
		b.WriteString("  The disks are read-only. For a guest that writes, give config an overlay\n    directory.\n")
	}
	b.WriteString("-->\n")
	b.Write(emptyElement.ReplaceAll(raw, []byte("/>")))
	b.WriteByte('\n')
	return b.String(), nil
}

// libvirtDisk is a drive under the name of its device.
func libvirtDisk(v Drive, device, bus string) lv.DomainDisk {
	file := func(path string) *lv.DomainDiskSource {
		return &lv.DomainDiskSource{File: &lv.DomainDiskSourceFile{File: path}}
	}
	k := lv.DomainDisk{
		Device: "disk", Driver: &lv.DomainDiskDriver{Name: "qemu", Type: v.Format}, Source: file(v.Path),
		BackingStore: &lv.DomainDiskBackingStore{}, Target: &lv.DomainDiskTarget{Dev: device, Bus: bus},
	}
	switch {
	case v.CDROM:
		k.Device = "cdrom"
	case v.Floppy:
		k.Device = "floppy"
	}
	if v.Overlay != "" {
		k.Source, k.Driver.Type = file(v.Overlay), v.overlayFormat()
	}
	if v.Overlay != "" && v.made != MadeCopy {
		k.BackingStore = &lv.DomainDiskBackingStore{Format: &lv.DomainDiskFormat{Type: v.Format}, Source: file(v.Path), BackingStore: &lv.DomainDiskBackingStore{}}
	}
	if v.Overlay == "" {
		k.ReadOnly = &lv.DomainDiskReadOnly{}
	}
	if v.Order > 0 {
		k.Boot = &lv.DomainDeviceBoot{Order: uint(v.Order)}
	}
	return k
}

// libvirtBus is the bus a drive gets: QEMU has no read-only disks on some.
func libvirtBus(v Drive) string {
	if v.Overlay == "" && !v.CDROM && (v.Bus == "ide" || v.Bus == "sata") {
		return "virtio"
	}
	return v.Bus
}
