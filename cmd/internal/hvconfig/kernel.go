package hvconfig

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"vmcastfs/xvm"
)

// addKernel takes the administrator's kernel, else the package's if it is one
// of its files.
func (m *Machine) addKernel(d *xvm.Description, exists func(string) bool, o Options) {
	m.cmdline = d.Cmdline
	if o.Append != "" {
		m.cmdline, m.fixed = o.Append, true
	}
	if o.Kernel != "" {
		m.Kernel, m.Ramdisk = o.Kernel, o.Ramdisk
		return
	}
	if d.Kernel == "" {
		return
	}
	if !exists(d.Kernel) {
		m.note("the kernel %q is no file of the release and is ignored", d.Kernel)
		return
	}
	m.Kernel = filepath.Join(o.Dir, filepath.FromSlash(d.Kernel))
	if d.Ramdisk == "" {
		return
	}
	if !exists(d.Ramdisk) {
		m.note("the ramdisk %q is no file of the release and is ignored", d.Ramdisk)
		return
	}
	m.Ramdisk = filepath.Join(o.Dir, filepath.FromSlash(d.Ramdisk))
}

// commandLine is the kernel's command line in a guest that sees the drives under
// the names given, one for each. A root= that means a drive by its described
// name is rewritten; if there is none and the first drive is a partition, it is
// the root.
func (m *Machine) commandLine(devices []string) string {
	if m.fixed || len(m.Drives) == 0 {
		return m.cmdline
	}
	words := strings.Fields(m.cmdline)
	has := false
	for i, w := range words {
		if root, ok := strings.CutPrefix(w, "root="); ok {
			has = true
			if dev, ok := strings.CutPrefix(root, "/dev/"); ok {
				words[i] = "root=/dev/" + m.rename(dev, devices)
			}
		}
	}
	root := m.Drives[0].root(devices[0])
	if m.Drives[0].Partition {
		root = devices[0]
	}
	if !has && root != "" {
		words = append(words, "root=/dev/"+root)
		if !slices.Contains(words, "rw") && !slices.Contains(words, "ro") {
			words = append(words, "ro")
		}
	}
	return strings.Join(words, " ")
}

// rename translates the described name of a drive, or of a partition of one.
func (m *Machine) rename(dev string, devices []string) string {
	for i, v := range m.Drives {
		if v.Target != "" && v.Target == dev {
			return devices[i]
		}
		for _, p := range v.parts {
			if p.target != "" && p.target == dev {
				return fmt.Sprint(devices[i], p.number)
			}
		}
	}
	disk := strings.TrimRight(dev, "0123456789")
	for i, v := range m.Drives {
		if v.Target != "" && v.Target == disk && !v.Partition {
			return devices[i] + dev[len(disk):]
		}
	}
	return dev
}
