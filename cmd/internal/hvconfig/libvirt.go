package hvconfig

import (
	"encoding/xml"
	"fmt"
	"regexp"
	"strings"
)

// The parts of a libvirt domain that are written.
type (
	domain struct {
		XMLName  xml.Name `xml:"domain"`
		Type     string   `xml:"type,attr"`
		Name     string   `xml:"name"`
		Memory   memory   `xml:"memory"`
		VCPU     int      `xml:"vcpu"`
		OS       domainOS
		Features *features `xml:"features"`
		CPU      struct {
			Mode string `xml:"mode,attr"`
		} `xml:"cpu"`
		Devices devices `xml:"devices"`
	}
	memory struct {
		Unit string `xml:"unit,attr"`
		Size int    `xml:",chardata"`
	}
	domainOS struct {
		XMLName  xml.Name `xml:"os"`
		Firmware string   `xml:"firmware,attr,omitempty"`
		Type     struct {
			Arch string `xml:"arch,attr"`
			Type string `xml:",chardata"`
		} `xml:"type"`
		Kernel  string `xml:"kernel,omitempty"`
		Ramdisk string `xml:"initrd,omitempty"`
		Cmdline string `xml:"cmdline,omitempty"`
	}
	features struct {
		ACPI struct{}  `xml:"acpi"`
		APIC *struct{} `xml:"apic"`
	}
	devices struct {
		Disks       []disk        `xml:"disk"`
		Controllers []controller  `xml:"controller"`
		NICs        []domainNIC   `xml:"interface"`
		Serial      domainSerial  `xml:"serial"`
		Console     domainConsole `xml:"console"`
		Balloon     struct {
			Model string `xml:"model,attr"`
		} `xml:"memballoon"`
	}
	disk struct {
		Type   string `xml:"type,attr"`
		Device string `xml:"device,attr"`
		Driver struct {
			Name string `xml:"name,attr"`
			Type string `xml:"type,attr"`
		} `xml:"driver"`
		Source  source        `xml:"source"`
		Backing *backingStore `xml:"backingStore"`
		Target  struct {
			Dev string `xml:"dev,attr"`
			Bus string `xml:"bus,attr"`
		} `xml:"target"`
		ReadOnly *struct{}  `xml:"readonly"`
		Boot     *bootOrder `xml:"boot"`
	}
	source struct {
		File string `xml:"file,attr"`
	}
	backingStore struct {
		Type   string      `xml:"type,attr,omitempty"`
		Format *diskFormat `xml:"format"`
		Source *source     `xml:"source"`
		End    *struct{}   `xml:"backingStore"`
	}
	diskFormat struct {
		Type string `xml:"type,attr"`
	}
	bootOrder struct {
		Order int `xml:"order,attr"`
	}
	controller struct {
		Type  string `xml:"type,attr"`
		Model string `xml:"model,attr"`
	}
	domainNIC struct {
		Type   string `xml:"type,attr"`
		Source *struct {
			Network string `xml:"network,attr"`
		} `xml:"source"`
		Model struct {
			Type string `xml:"type,attr"`
		} `xml:"model"`
	}
	domainSerial struct {
		Type string `xml:"type,attr"`
	}
	domainConsole struct {
		Type string `xml:"type,attr"`
	}
)

// emptyElement matches from the end of the start tag of an element without
// content; in all others text or a line break comes first.
var emptyElement = regexp.MustCompile(`></[A-Za-z]+>`)

// Libvirt is the domain, as virsh define and virsh create take it.
func (m *Machine) Libvirt() (string, error) {
	m = m.single()
	d := domain{Type: "qemu", Name: m.Name, Memory: memory{"MiB", m.MemoryMiB}, VCPU: m.CPUs}
	if m.kvm {
		d.Type = "kvm"
	}
	d.CPU.Mode = "maximum"
	d.OS.Type.Type, d.OS.Type.Arch = "hvm", m.Arch
	notes := m.Notes
	if m.Arch == "x86_64" {
		d.Features = &features{APIC: &struct{}{}}
	}
	if m.Kernel != "" {
		d.OS.Kernel, d.OS.Ramdisk = m.Kernel, m.Ramdisk
		d.OS.Cmdline = m.commandLine(m.linuxNames(libvirtBus))
	} else if m.UEFI || m.Arch == "aarch64" {
		d.OS.Firmware = "efi"
		d.Features = &features{}
		if m.Arch == "x86_64" {
			d.Features.APIC = &struct{}{}
		}
	}
	dev := &d.Devices
	dev.Serial.Type, dev.Console.Type, dev.Balloon.Model = "pty", "pty", "virtio"
	count := make(map[string]int)
	overlays := 0
	for _, v := range m.Drives {
		bus := libvirtBus(v)
		if bus != v.Bus {
			notes = append(notes, fmt.Sprintf("%s drives cannot be read-only: attached as virtio; with an overlay it is as described", strings.ToUpper(v.Bus)))
		}
		prefix := map[string]string{"virtio": "vd", "ide": "hd", "fdc": "fd"}[bus]
		if prefix == "" {
			prefix = "sd"
		}
		k := disk{Type: "file", Device: "disk", Source: source{v.Path}, Backing: &backingStore{}}
		switch {
		case v.CDROM:
			k.Device = "cdrom"
		case v.Floppy:
			k.Device = "floppy"
		}
		k.Driver.Name, k.Driver.Type = "qemu", v.Format
		if v.Overlay != "" {
			overlays++
			k.Source.File, k.Driver.Type = v.Overlay, "qcow2"
			k.Backing = &backingStore{Type: "file", Format: &diskFormat{v.Format}, Source: &source{v.Path}, End: &struct{}{}}
		} else {
			k.ReadOnly = &struct{}{}
		}
		k.Target.Dev, k.Target.Bus = prefix+letter(count[prefix]), bus
		count[prefix]++
		if v.Order > 0 {
			k.Boot = &bootOrder{v.Order}
		}
		dev.Disks = append(dev.Disks, k)
		if bus == "scsi" && len(dev.Controllers) == 0 {
			dev.Controllers = []controller{{"scsi", "virtio-scsi"}}
		}
	}
	for _, model := range m.NICs {
		var n domainNIC
		n.Type, n.Model.Type = "user", "virtio"
		if q := m.qemuNIC(model); q != "virtio-net-pci" {
			n.Model.Type = q
		}
		if m.network != "" {
			n.Type = "network"
			n.Source = &struct {
				Network string `xml:"network,attr"`
			}{m.network}
		}
		dev.NICs = append(dev.NICs, n)
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
		comment(n)
	}
	if overlays > 0 {
		comment("Make the overlays first:")
		for _, v := range m.Drives {
			if v.Overlay != "" {
				comment("  " + v.overlayCommand())
			}
		}
	} else {
		b.WriteString("  The disks are read-only; for a guest that writes, give config an overlay directory.\n")
	}
	b.WriteString("-->\n")
	b.Write(emptyElement.ReplaceAll(raw, []byte("/>")))
	b.WriteByte('\n')
	return b.String(), nil
}

// libvirtBus is the bus a drive gets: QEMU has no read-only disks on some.
func libvirtBus(v Drive) string {
	if v.Overlay == "" && !v.CDROM && (v.Bus == "ide" || v.Bus == "sata") {
		return "virtio"
	}
	return v.Bus
}
