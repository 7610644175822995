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
// the names given, one for each, and whose console is shown. A root= that means a
// drive by its described name is rewritten; if there is none and the first drive
// is a partition, it is the root. The note tells what became of the consoles.
func (m *Machine) commandLine(devices []string, console string) (line, note string) {
	if m.fixed || len(m.Drives) == 0 {
		return m.cmdline, ""
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
	root := ""
	if i := m.rootDrive(); i >= 0 {
		if root = m.Drives[i].root(devices[i]); m.Drives[i].Partition {
			root = devices[i]
		}
	}
	words, forInit := cutInit(words)
	if !has && root != "" {
		words = append(words, "root=/dev/"+root)
		if !slices.Contains(words, "rw") && !slices.Contains(words, "ro") {
			words = append(words, "ro")
		}
	}
	words, others := withConsole(words, console)
	words = append(words, forInit...)
	if len(others) > 0 {
		note = fmt.Sprintf("console=%s is added as the last, which makes it /dev/console; %s of the package stays before it", console, strings.Join(others, " "))
	}
	return strings.Join(words, " "), note
}

// cutInit splits off what a command line says to init.
func cutInit(words []string) (kernel, init []string) {
	if i := slices.Index(words, "--"); i >= 0 {
		return slices.Clip(words[:i]), words[i:]
	}
	return words, nil
}

// withConsole makes a console the last that a command line names, which the
// guest takes for /dev/console. It returns the others if that changes anything.
func withConsole(words []string, console string) (out, others []string) {
	own, last, at := "console="+console, "", len(words)
	for i, w := range words {
		name, _, _ := strings.Cut(w, ",")
		if name == own {
			own = w
		} else if strings.HasPrefix(w, "console=") {
			others = append(others, w)
		}
		if strings.HasPrefix(w, "console=") {
			last, at = w, i+1
		}
	}
	if last == own {
		return words, nil
	}
	out = slices.Insert(slices.Clone(words), at, own)
	if i := slices.Index(out, own); i < at {
		out = slices.Delete(out, i, i+1)
	}
	return out, others
}

// rootDrive is the first drive that may hold the root: swap does not. -1: none.
func (m *Machine) rootDrive() int {
	return slices.IndexFunc(m.Drives, func(v Drive) bool { return !v.Swap })
}

// rename translates the described name of a drive, or of a partition of one.
func (m *Machine) rename(dev string, devices []string) string {
	for i, v := range m.Drives {
		for _, p := range v.parts {
			if p.target != "" && p.target == dev {
				return fmt.Sprint(devices[i], p.number)
			}
		}
		if v.Target != "" && v.Target == dev {
			return devices[i]
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
