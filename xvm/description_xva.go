package xvm

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// ova.xml of an XVA archive is a value of XML-RPC: a struct whose member
// "objects" is an array of structs {class, id, snapshot}; a snapshot is the
// record that XAPI keeps of a VM, VBD, VDI, ….

// xvaObject is one of them.
type xvaObject struct {
	class, id string
	snapshot  map[string]string // its plain fields
}

// rpcStruct returns the members of the struct within a value.
func rpcStruct(n *xmlNode) map[string]*xmlNode {
	m := make(map[string]*xmlNode)
	for _, member := range n.child("struct").all("member") {
		m[member.child("name").value()] = member.child("value")
	}
	return m
}

// rpcText is the text of a plain value, with or without its type around it.
func rpcText(n *xmlNode) string {
	if n != nil && len(n.children) == 1 && len(n.children[0].children) == 0 {
		return n.children[0].value()
	}
	return n.value()
}

func xvaObjects(root *xmlNode) []xvaObject {
	var objects []xvaObject
	for _, v := range rpcStruct(root)["objects"].child("array", "data").all("value") {
		fields := rpcStruct(v)
		o := xvaObject{class: rpcText(fields["class"]), id: rpcText(fields["id"]), snapshot: make(map[string]string)}
		for name, value := range rpcStruct(fields["snapshot"]) {
			o.snapshot[name] = rpcText(value)
		}
		objects = append(objects, o)
	}
	return objects
}

// xvaDevice is what ova.xml says of a disk.
type xvaDevice struct {
	rank int // in the order of the machine's devices
	size int64
}

// xvaDevices lists the disks by the reference under which they are stored. A
// document that cannot be read tells nothing.
func xvaDevices(description []byte) map[string]xvaDevice {
	root, err := parseXML(description)
	if err != nil {
		return nil
	}
	return devicesOf(xvaObjects(root))
}

func devicesOf(objects []xvaObject) map[string]xvaDevice {
	machine := xvaMachine(objects).id
	type attached struct {
		ref string
		at  int
	}
	var order []attached
	for _, o := range objects {
		if o.class != "VBD" || !strings.HasPrefix(o.snapshot["VDI"], "Ref:") || o.snapshot["type"] == "CD" || machine != "" && o.snapshot["VM"] != machine {
			continue
		}
		at, err := strconv.Atoi(o.snapshot["userdevice"])
		if err != nil || at < 0 || at >= maxDrives {
			at = maxDrives
		}
		order = append(order, attached{o.snapshot["VDI"], at})
	}
	slices.SortStableFunc(order, func(a, b attached) int { return cmp.Compare(a.at, b.at) })
	disks := make(map[string]xvaDevice)
	for rank, a := range order {
		if _, known := disks[a.ref]; !known && rank < maxDrives {
			disks[a.ref] = xvaDevice{rank: rank}
		}
	}
	for _, o := range objects {
		if o.class != "VDI" {
			continue
		}
		v, known := disks[o.id]
		if !known {
			v.rank = maxDrives
		}
		if n, err := strconv.ParseInt(o.snapshot["virtual_size"], 10, 64); err == nil && n > 0 {
			v.size = n
		}
		disks[o.id] = v
	}
	return disks
}

// xvaMachine is the virtual machine itself, which may come with its snapshots.
func xvaMachine(objects []xvaObject) (vm xvaObject) {
	for _, o := range objects {
		if o.class == "VM" && (vm.id == "" || vm.snapshot["is_a_snapshot"] == "1") {
			vm = o
		}
	}
	return vm
}

// fromXVA reads an ova.xml. Which disks there are is told by the archive, so
// that drives are named as [XVADisks] names them.
func (d *Description) fromXVA(root *xmlNode) {
	objects := xvaObjects(root)
	vm := xvaMachine(objects).snapshot
	d.MemoryMiB = d.memory(vm["memory_static_max"], "B")
	d.CPUs = d.cpus(vm["VCPUs_max"])
	d.Machine = "pv"
	if vm["HVM_boot_policy"] != "" {
		d.Machine = "hvm"
	}
	if vm["PV_kernel"] != "" || vm["PV_bootloader"] != "" {
		d.warn("a kernel or boot loader of the host is ignored")
	}
	disks := 0
	for _, v := range devicesOf(objects) {
		if v.rank < maxDrives {
			disks++
		}
	}
	for i := range disks {
		drive := Drive{File: "disk" + strconv.Itoa(i) + ".img"}
		if i == 0 {
			drive.Boot = 1
		}
		d.addDrive(drive)
	}
	for _, o := range objects {
		if o.class == "VIF" && o.snapshot["VM"] == xvaMachine(objects).id {
			d.addNIC("")
		}
	}
}
