package hvconfig

import (
	"fmt"
	"path/filepath"
	"regexp"
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
		has = has || strings.HasPrefix(w, "root=")
		for _, option := range []string{"root=/dev/", "resume=/dev/"} {
			if dev, ok := strings.CutPrefix(w, option); ok {
				words[i] = option + m.rename(dev, devices)
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

// rename translates the described name of a drive, or of a partition of one. A
// description may say sda1 where the kernel's command line says xvda1: after the
// names that are the same come those of the same place. Without any described name,
// the place is that of the guest's.
func (m *Machine) rename(dev string, devices []string) string {
	type known struct{ name, device string }
	var parts, disks []known
	add := func(name func(described, device string) string) {
		for i, v := range m.Drives {
			for _, p := range v.parts {
				device := fmt.Sprint(devices[i], p.number)
				parts = append(parts, known{name(p.target, device), device})
			}
			d := known{name(v.Target, devices[i]), devices[i]}
			if parts = append(parts, d); !v.Partition {
				disks = append(disks, d)
			}
		}
	}
	add(func(described, _ string) string { return described })
	add(func(_, device string) string { return device })
	for _, key := range []func(string) string{strings.Clone, place} {
		want := key(dev)
		disk := strings.TrimRight(want, "0123456789")
		if i := slices.IndexFunc(parts, func(k known) bool { return k.name != "" && key(k.name) == want }); i >= 0 {
			return parts[i].device
		}
		if i := slices.IndexFunc(disks, func(k known) bool { return k.name != "" && key(k.name) == disk }); i >= 0 {
			return disks[i].device + want[len(disk):]
		}
	}
	return dev
}

var (
	diskName = regexp.MustCompile(`^(?:xvd|sd|hd|vd)([a-z][0-9]*)$`)
	nvmeName = regexp.MustCompile(`^nvme([0-9])n1(?:p([0-9]+))?$`)
)

// place is the letter of a disk and the number of its partition, which are the same
// under any driver: "a1" of sda1, vda1 and nvme0n1p1.
func place(name string) string {
	if is := nvmeName.FindStringSubmatch(name); is != nil {
		return letter(int(is[1][0]-'0')) + is[2]
	}
	if is := diskName.FindStringSubmatch(name); is != nil {
		return is[1]
	}
	return name
}
