package xvm

import (
	"cmp"
	"slices"
	"strconv"
)

// neverUsed are parts of a libvirt domain through which a description could
// reach the host; they are told of and otherwise ignored.
var neverUsed = []string{
	"emulator", "commandline", "hostdev", "filesystem", "bootloader", "bootloader_args", "seclabel", "shmem", "redirdev", "smartcard", "init",
	"initarg", "tpm", "hook", "script", "backingStore", "mirror", "mdev", "rng", "loader", "nvram", "launchSecurity",
}

// fromLibvirt reads a <domain>.
func (d *Description) fromLibvirt(root *xmlNode) {
	m := root.child("memory")
	d.MemoryMiB = d.memory(m.value(), cmp.Or(m.attr("unit"), "KiB"))
	d.CPUs = d.cpus(root.child("vcpu").value())

	os := root.child("os")
	d.Arch = cleanArch(os.child("type").attr("arch"))
	switch os.child("type").value() {
	case "hvm":
		d.Machine = "hvm"
	case "linux", "xen":
		d.Machine = "pv"
	case "xenpvh":
		d.Machine = "pvh"
	}
	if os.attr("firmware") == "efi" || os.child("loader").attr("type") == "pflash" {
		d.Firmware = "uefi"
	}
	d.directBoot(os.child("kernel").value(), os.child("initrd").value(), os.child("cmdline").value())

	devices := root.child("devices")
	for _, disk := range devices.all("disk") {
		d.libvirtDisk(disk)
	}
	d.bootDevices(os.all("boot"))
	for _, n := range devices.all("interface") {
		d.addNIC(n.child("model").attr("type"))
	}
	root.walk(func(n *xmlNode) {
		if n.is(neverUsed...) {
			d.warn("<%s> is ignored", n.name)
		}
	})
}

func (d *Description) libvirtDisk(disk *xmlNode) {
	source := disk.child("source")
	if file := source.attr("file"); file == "" {
		if source != nil {
			d.warn("a disk that is no file is ignored")
		}
		return
	}
	device := disk.attr("device")
	target := disk.child("target")
	v := Drive{
		File:     d.cleanFile(source.attr("file")),
		Target:   matching(target.attr("dev"), targetForm),
		Bus:      oneOf(target.attr("bus"), drivesOn),
		CDROM:    device == "cdrom",
		Floppy:   device == "floppy",
		ReadOnly: disk.child("readonly") != nil || device == "cdrom",
	}
	if n, err := strconv.Atoi(disk.child("boot").attr("order")); err == nil && n > 0 && n <= maxDrives {
		v.Boot = n
	}
	d.addDrive(v)
}

// bootDevices applies <boot dev="hd"/> elements, which name kinds of drives, to
// the first drive of each kind, unless the drives have an order of their own.
func (d *Description) bootDevices(boots []*xmlNode) {
	if slices.ContainsFunc(d.Drives, func(v Drive) bool { return v.Boot > 0 }) {
		return
	}
	order := 0
	for _, b := range boots {
		kind := b.attr("dev")
		for i := range d.Drives {
			v := &d.Drives[i]
			is := "hd"
			if v.CDROM {
				is = "cdrom"
			} else if v.Floppy {
				is = "fd"
			}
			if is == kind && v.Boot == 0 {
				order++
				v.Boot = order
				break
			}
		}
	}
}

func (d *Description) directBoot(kernel, ramdisk, cmdline string) {
	d.Kernel = d.cleanFile(kernel)
	d.Ramdisk = d.cleanFile(ramdisk)
	line, ok := cleanCmdline(cmdline)
	if !ok {
		d.warn("the kernel's command line is too long or not printable")
		return
	}
	d.Cmdline = line
}
