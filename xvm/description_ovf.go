package xvm

import (
	"cmp"
	"strings"
)

// Resource types of CIM that occur in OVF hardware sections.
const (
	ovfCPU      = "3"
	ovfMemory   = "4"
	ovfIDE      = "5"
	ovfSCSI     = "6"
	ovfEthernet = "10"
	ovfFloppy   = "14"
	ovfCDROM    = "15"
	ovfDVD      = "16"
	ovfDisk     = "17"
	ovfStorage  = "20"
)

// fromOVF reads an <Envelope>; of several virtual systems the first.
func (d *Description) fromOVF(root *xmlNode) {
	var system *xmlNode
	root.walk(func(n *xmlNode) {
		if system == nil && n.is("VirtualSystem") {
			system = n
		}
	})

	files := make(map[string]string) // id → name
	for _, f := range root.child("References").all("File") {
		if f.attr("compression") != "" && !strings.EqualFold(f.attr("compression"), "identity") {
			d.warn("file %q is compressed as %q", f.attr("href"), f.attr("compression"))
		}
		if f.attr("chunkSize") != "" {
			d.warn("file %q is stored in chunks, which are not put together", f.attr("href"))
		}
		files[f.attr("id")] = d.cleanFile(f.attr("href"))
	}
	disks := make(map[string]string) // disk id → file name
	for _, disk := range root.child("DiskSection").all("Disk") {
		if disk.attr("parentRef") != "" {
			d.warn("disk %q is a delta of another and is ignored", disk.attr("diskId"))
			continue
		}
		disks[disk.attr("diskId")] = files[disk.attr("fileRef")]
	}
	hardware := system.child("VirtualHardwareSection")
	if strings.Contains(hardware.child("System", "VirtualSystemType").value(), "xen") {
		d.Machine = "hvm"
	}
	var items []*xmlNode
	buses := make(map[string]string) // instance id of a controller → bus
	if hardware != nil {
		for _, item := range hardware.children {
			switch {
			case item.is("Item", "StorageItem", "EthernetPortItem"):
				items = append(items, item)
				buses[item.child("InstanceID").value()] = ovfBus(item)
			case item.is("Config") && item.attr("key") == "firmware":
				d.Firmware = oneOf(strings.Replace(item.attr("value"), "efi", "uefi", 1), []string{"uefi", "bios"})
			}
		}
	}
	for _, item := range items {
		switch kind := item.child("ResourceType").value(); kind {
		case ovfCPU:
			d.CPUs = d.cpus(item.child("VirtualQuantity").value())
		case ovfMemory:
			d.MemoryMiB = d.memory(item.child("VirtualQuantity").value(), cmp.Or(item.child("AllocationUnits").value(), "MiB"))
		case ovfEthernet:
			d.addNIC(item.child("ResourceSubType").value())
		case ovfDisk, ovfCDROM, ovfDVD, ovfFloppy:
			id := item.child("HostResource").value()
			id = id[strings.LastIndexByte(id, '/')+1:]
			file, ok := disks[id]
			if !ok {
				file = files[id]
			}
			d.addDrive(Drive{
				File:     file,
				Bus:      buses[item.child("Parent").value()],
				CDROM:    kind == ovfCDROM || kind == ovfDVD,
				Floppy:   kind == ovfFloppy,
				ReadOnly: kind == ovfCDROM || kind == ovfDVD,
			})
		}
	}
	for i := range d.Drives {
		if !d.Drives[i].CDROM && !d.Drives[i].Floppy {
			d.Drives[i].Boot = 1
			break
		}
	}
}

// ovfBus is the bus that a controller makes.
func ovfBus(item *xmlNode) string {
	switch item.child("ResourceType").value() {
	case ovfIDE:
		return "ide"
	case ovfSCSI:
		return "scsi"
	case ovfStorage:
		sub := strings.ToLower(item.child("ResourceSubType").value())
		switch {
		case strings.Contains(sub, "ahci"), strings.Contains(sub, "sata"):
			return "sata"
		case strings.Contains(sub, "nvme"):
			return "nvme"
		}
	}
	return ""
}
