package hvconfig

import (
	"fmt"
	"slices"
	"strings"

	"vmcastfs/xvm"
)

// Joined is a file of the release that shows partition images as the
// partitions of one disk. Its parts are no longer attached one by one then, but
// by xl, which attaches images as partitions.
type Joined struct {
	Name  string // "disk.img"; "": there is none
	Parts []Part
}

// Part is one partition of a Joined.
type Part struct {
	Number int
	File   string
}

// part is a partition of a drive.
type part struct {
	number int
	target string // the described name of the partition
	root   bool   // the first drive of the machine
}

// join makes the drive that stands for the parts, if they are drives of the
// machine. drives are those that m.Drives were made of.
func (m *Machine) join(drives []xvm.Drive, o Options) error {
	if o.Joined.Name == "" {
		return nil
	}
	whole := xvm.Drive{File: o.Joined.Name}
	var parts []part
	for _, p := range o.Joined.Parts {
		i := slices.IndexFunc(drives, func(v xvm.Drive) bool { return v.File == p.File })
		if i < 0 {
			return nil
		}
		v := drives[i]
		disk := strings.TrimRight(v.Target, "0123456789")
		if len(parts) == 0 {
			whole.Target, whole.Bus = disk, v.Bus
		} else if disk != whole.Target {
			whole.Target = ""
		}
		whole.ReadOnly = whole.ReadOnly || v.ReadOnly
		parts = append(parts, part{p.Number, v.Target, i == m.rootDrive()})
		m.joinedSwap = m.joinedSwap || m.Drives[i].Swap
		m.joinedParts = append(m.joinedParts, i)
	}
	one := &Machine{Name: m.Name, Arch: m.Arch, Kernel: m.Kernel}
	if err := one.addDrives([]xvm.Drive{whole}, map[string]File{o.Joined.Name: {Name: o.Joined.Name, Disk: xvm.Disk{Format: "raw"}}}, o); err != nil {
		return err
	}
	m.joinedDrive = one.Drives[0]
	m.joinedDrive.parts = parts
	m.joinedDrive.Order = 0
	return nil
}

// single is the machine with one drive in the place of the parts, where there
// is such a drive. Where drives without overlays are read-only, one with swap in
// it is of no use: the parts are attached, and the swap is left out.
func (m *Machine) single(readOnly bool) *Machine {
	if len(m.joinedParts) == 0 || readOnly && m.joinedSwap && m.joinedDrive.Overlay == "" {
		return m
	}
	s := *m
	s.Drives = nil
	for i, v := range m.Drives {
		switch {
		case i == slices.Min(m.joinedParts):
			s.Drives = append(s.Drives, m.joinedDrive)
		case !slices.Contains(m.joinedParts, i):
			s.Drives = append(s.Drives, v)
		}
	}
	return &s
}

// root is the device of the partition that the machine's first drive is, or "".
func (v Drive) root(device string) string {
	for _, p := range v.parts {
		if p.root {
			return fmt.Sprint(device, p.number)
		}
	}
	return ""
}
