package xvm

import (
	"encoding/xml"
	"fmt"
	"strconv"
	"strings"
)

// fromXVM reads an xvm.xml. The element list of the drafts is not known, so
// beside those of our own schema the usual other names are understood, as
// elements or attributes, wherever they stand.
func (d *Description) fromXVM(root *xmlNode) {
	find := func(names ...string) *xmlNode {
		if n := root.first(names...); n != nil {
			return n
		}
		var found *xmlNode
		root.walk(func(n *xmlNode) {
			if found == nil && n != root && n.is(names...) {
				found = n
			}
		})
		return found
	}
	text := func(names ...string) string {
		n := find(names...)
		return orElse(n.value(), n.attr("value"))
	}
	d.Name = cleanText(orElse(root.first("name", "title").value(), root.attr("name", "id")), 255)
	d.Summary = cleanText(root.first("description", "summary", "comment").value(), 1000)
	d.UUID = cleanUUID(text("uuid"))
	memory := find("memory", "ram", "mem", "maxmem")
	d.MemoryMiB = d.memory(orElse(memory.value(), memory.attr("value", "size")), orElse(memory.attr("unit"), "MiB"))
	d.CPUs = d.cpus(text("vcpu", "vcpus", "cpus", "cpu"))
	d.Arch = cleanArch(text("arch", "architecture"))
	d.Firmware = oneOf(text("firmware"), []string{"bios", "uefi"})
	switch strings.ToLower(text("machine", "virtualization", "builder")) {
	case "hvm":
		d.Machine = "hvm"
	case "pv", "paravirt", "linux", "xen":
		d.Machine = "pv"
	}
	d.directBoot(fileOf(find("kernel")), fileOf(find("initrd", "ramdisk")), text("cmdline", "commandline", "append", "extra", "kernelargs"))

	root.walk(func(n *xmlNode) {
		switch {
		case n.is("disk", "image", "imagefile", "partition", "cdrom"):
			d.xvmDrive(n)
		case n.is("interface", "nic", "vif"):
			d.addNIC(NIC{
				Model:   cleanNICModel(orElse(n.attr("model"), n.child("model").value())),
				MAC:     cleanMAC(orElse(n.attr("mac", "address"), n.child("mac").value())),
				Network: matching(orElse(n.attr("network", "bridge"), n.child("network").value()), networkForm),
			})
		case n.is(neverUsed...):
			d.warn("<%s> is ignored", n.name)
		}
	})
}

func (d *Description) xvmDrive(n *xmlNode) {
	file := d.cleanFile(fileOf(n))
	kind := strings.ToLower(n.attr("type", "device"))
	v := Drive{
		File:   file,
		Target: matching(strings.TrimPrefix(orElse(n.attr("target", "dev"), n.child("target").value()), "/dev/"), targetForm),
		Bus:    oneOf(n.attr("bus"), drivesOn),
		Format: cleanFormat(n.attr("format")),
		CDROM:  kind == "cdrom" || n.is("cdrom"),
		Floppy: kind == "floppy",
	}
	v.ReadOnly = v.CDROM || isYes(n.attr("readonly", "mode"))
	if b, err := strconv.Atoi(n.attr("boot")); err == nil && b > 0 && b <= maxDrives {
		v.Boot = b
	}
	d.addDrive(v)
}

// fileOf finds the file name that an element gives: an attribute, a child or its text.
func fileOf(n *xmlNode) string {
	if s := n.attr("file", "src", "href", "source"); s != "" {
		return s
	}
	if c := n.first("file", "source", "filename"); c != nil {
		return orElse(c.attr("file"), c.value())
	}
	return n.value()
}

// The schema of the xvm.xml that we write; see the package documentation.
type (
	xvmDocument struct {
		XMLName     xml.Name   `xml:"xvm"`
		Version     int        `xml:"version,attr"`
		Name        string     `xml:"name"`
		Description string     `xml:"description,omitempty"`
		UUID        string     `xml:"uuid,omitempty"`
		Arch        string     `xml:"arch,omitempty"`
		Memory      *xvmMemory `xml:"memory"`
		CPUs        int        `xml:"vcpu,omitempty"`
		Firmware    string     `xml:"firmware,omitempty"`
		Machine     string     `xml:"machine,omitempty"`
		Kernel      string     `xml:"kernel,omitempty"`
		Ramdisk     string     `xml:"ramdisk,omitempty"`
		Cmdline     string     `xml:"cmdline,omitempty"`
		Drives      []xvmDisk  `xml:"disk"`
		NICs        []xvmNIC   `xml:"interface"`
	}
	xvmMemory struct {
		Unit string `xml:"unit,attr"`
		Size int    `xml:",chardata"`
	}
	xvmDisk struct {
		File     string `xml:"file,attr"`
		Type     string `xml:"type,attr,omitempty"` // "cdrom", "floppy", or a disk
		Target   string `xml:"target,attr,omitempty"`
		Bus      string `xml:"bus,attr,omitempty"`
		Format   string `xml:"format,attr,omitempty"`
		ReadOnly string `xml:"readonly,attr,omitempty"`
		Boot     int    `xml:"boot,attr,omitempty"`
	}
	xvmNIC struct {
		Model   string `xml:"model,attr,omitempty"`
		MAC     string `xml:"mac,attr,omitempty"`
		Network string `xml:"network,attr,omitempty"`
	}
)

// MarshalXVM writes the description as an xvm.xml. What ParseDescription would
// not read back unchanged is an error.
func (d *Description) MarshalXVM() ([]byte, error) {
	doc := xvmDocument{
		Version: 1, Name: d.Name, Description: d.Summary, UUID: d.UUID, Arch: d.Arch, CPUs: d.CPUs, Firmware: d.Firmware, Machine: d.Machine,
		Kernel: d.Kernel, Ramdisk: d.Ramdisk, Cmdline: d.Cmdline,
	}
	if d.MemoryMiB != 0 {
		doc.Memory = &xvmMemory{Unit: "MiB", Size: d.MemoryMiB}
	}
	for _, v := range d.Drives {
		x := xvmDisk{File: v.File, Target: v.Target, Bus: v.Bus, Format: v.Format, Boot: v.Boot}
		switch {
		case v.CDROM:
			x.Type = "cdrom"
		case v.Floppy:
			x.Type = "floppy"
		}
		if v.ReadOnly && !v.CDROM {
			x.ReadOnly = "yes"
		}
		doc.Drives = append(doc.Drives, x)
	}
	for _, n := range d.NICs {
		doc.NICs = append(doc.NICs, xvmNIC(n))
	}
	b, err := xml.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write description: %w", err)
	}
	b = append([]byte(xml.Header), append(b, '\n')...)
	back, err := ParseDescription(b)
	if err != nil {
		return nil, fmt.Errorf("write description: %w", err)
	}
	if diff := d.difference(back); diff != "" {
		return nil, fmt.Errorf("write description: %s", diff)
	}
	return b, nil
}

// difference names a field in which two descriptions differ, apart from Kind
// and Warnings, or is "".
func (d *Description) difference(o *Description) string {
	for _, f := range []struct {
		name string
		a, b any
	}{
		{"name", d.Name, o.Name}, {"summary", d.Summary, o.Summary}, {"uuid", d.UUID, o.UUID}, {"memory", d.MemoryMiB, o.MemoryMiB},
		{"number of processors", d.CPUs, o.CPUs}, {"architecture", d.Arch, o.Arch}, {"firmware", d.Firmware, o.Firmware},
		{"machine", d.Machine, o.Machine}, {"kernel", d.Kernel, o.Kernel}, {"ramdisk", d.Ramdisk, o.Ramdisk}, {"command line", d.Cmdline, o.Cmdline},
		{"number of drives", len(d.Drives), len(o.Drives)}, {"number of network interfaces", len(d.NICs), len(o.NICs)},
	} {
		if f.a != f.b {
			return fmt.Sprintf("%s %q is not valid", f.name, fmt.Sprint(f.a))
		}
	}
	for i := range d.Drives {
		if d.Drives[i] != o.Drives[i] {
			return fmt.Sprintf("drive %+v is not valid", d.Drives[i])
		}
	}
	for i := range d.NICs {
		if d.NICs[i] != o.NICs[i] {
			return fmt.Sprintf("network interface %+v is not valid", d.NICs[i])
		}
	}
	return ""
}
