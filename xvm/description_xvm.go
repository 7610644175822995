package xvm

import (
	"cmp"
	"strconv"
	"strings"
)

// The element list of the drafts is lost. This is the schema of ours, all of it
// optional:
//
//	<xvm version="1">
//	  <name>debian-12.5</name>  <arch>x86_64</arch>
//	  <memory unit="MiB">512</memory>  <vcpu>2</vcpu>
//	  <firmware>bios|uefi</firmware>  <machine>hvm|pv|pvh</machine>
//	  <kernel>vmlinuz</kernel>  <ramdisk>initrd.img</ramdisk>  <cmdline>root=/dev/vda1 ro</cmdline>
//	  <disk file="root.img" type="cdrom|floppy" target="vda" bus="virtio" readonly="yes" boot="1"/>
//	  <interface model="virtio"/>
//	</xvm>
//
// The usual other names of these things are understood as well (ram, cpus, initrd,
// imagefile, vif, …), under any root element. Unknown elements are ignored.

// fromXVM reads an xvm.xml. Values may be elements or attributes, wherever they
// stand.
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
		return cmp.Or(n.value(), n.attr("value"))
	}
	memory := find("memory", "ram", "mem", "maxmem")
	d.MemoryMiB = d.memory(cmp.Or(memory.value(), memory.attr("value", "size")), cmp.Or(memory.attr("unit"), "MiB"))
	d.CPUs = d.cpus(text("vcpu", "vcpus", "cpus", "cpu"))
	d.Arch = cleanArch(text("arch", "architecture"))
	d.Firmware = oneOf(text("firmware"), []string{"bios", "uefi"})
	switch m := strings.ToLower(text("machine", "virtualization", "builder")); m {
	case "hvm", "pvh":
		d.Machine = m
	case "pv", "paravirt", "linux", "xen":
		d.Machine = "pv"
	}
	d.directBoot(fileOf(find("kernel")), fileOf(find("initrd", "ramdisk")), text("cmdline", "commandline", "append", "extra", "kernelargs"))

	root.walk(func(n *xmlNode) {
		switch {
		case n.is("disk", "image", "imagefile", "partition", "cdrom"):
			d.xvmDrive(n)
		case n.is("interface", "nic", "vif"):
			d.addNIC(cmp.Or(n.attr("model"), n.child("model").value()))
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
		Target: matching(strings.TrimPrefix(cmp.Or(n.attr("target", "dev"), n.child("target").value()), "/dev/"), targetForm),
		Bus:    oneOf(n.attr("bus"), drivesOn),
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
		return cmp.Or(c.attr("file"), c.value())
	}
	return n.value()
}
