package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/xvm"
)

// configCommand is `vmcastfs config qemu|xl|libvirt DIR/RELEASE`.
func configCommand(e *env) *cobra.Command {
	var o hvconfig.Options
	var accel string
	cmd := &cobra.Command{
		Use:   "config [OPTIONS] qemu|xl|libvirt DIR/RELEASE",
		Short: "print what boots a release from its path",
		Long: `config prints what boots the release in the directory DIR/RELEASE of a mount: a
script for sh with the command of QEMU, a file for xl create, or a domain for
virsh define. It reads the description (xvm.xml, description.xml, an OVF
descriptor or ova.xml) and the first bytes of the images through the directory.

The formats of the images are those of their content and always explicit. Names,
addresses, host paths, emulators and networks that the description asks for are
not passed on; a kernel is used if it is a file of the release, or if you name
one. The release itself is never written to: without --overlay QEMU keeps what
the guest writes in a temporary file, and libvirt and xl attach the disks
read-only. With --overlay DIR each disk gets an overlay DIR/RELEASE-DISK.qcow2,
made by the qemu-img lines in the output.

Images of partitions, which need a kernel, are one drive for QEMU and libvirt:
the mount's disk.img. xl attaches them as the partitions that they are.

"latest" is followed, so that a machine keeps the release it was made from.`,
		Example: `  eval "$(vmcastfs config qemu /srv/vmcast/latest)"
  vmcastfs config libvirt --overlay /var/lib/libvirt/images \
    /srv/vmcast/debian-12.5 | virsh define /dev/stdin
  vmcastfs config xl --kernel /boot/vmlinuz --initrd /boot/initrd.img \
    /srv/vmcast/debian-12.5 > debian.cfg`,
		Args:              exactArgs(2, "qemu, xl or libvirt, and the DIR/RELEASE"),
		ValidArgsFunction: configArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			var write func(*hvconfig.Machine) (string, error)
			switch args[0] {
			case "qemu":
				write = (*hvconfig.Machine).QEMU
			case "xl":
				write = (*hvconfig.Machine).XL
			case "libvirt":
				write = (*hvconfig.Machine).Libvirt
			default:
				return usagef("config knows qemu, xl and libvirt, not %q", args[0])
			}
			switch accel {
			case "kvm", "tcg":
				o.KVM = accel == "kvm"
			case "auto":
				_, err := os.Stat("/dev/kvm")
				o.KVM = err == nil
			default:
				return usagef("--accel must be auto, kvm or tcg")
			}
			for _, p := range []*string{&o.Overlay, &o.Kernel, &o.Ramdisk} {
				if *p == "" {
					continue
				}
				abs, err := filepath.Abs(*p)
				if err != nil {
					return err
				}
				*p = abs
			}
			m, err := planMachine(args[1], o)
			if err != nil {
				return withCode(exitFailed, err)
			}
			text, err := write(m)
			if err != nil {
				return withCode(exitFailed, err)
			}
			_, err = io.WriteString(e.stdout, text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the machine (default: the release's)")
	f.StringVar(&o.Overlay, "overlay", "", "directory for overlays, which keep what the guest writes")
	f.StringVar(&o.Kernel, "kernel", "", "kernel to boot instead of the release's")
	f.StringVar(&o.Ramdisk, "initrd", "", "its initial ramdisk")
	f.StringVar(&o.Append, "append", "", "kernel command line instead of the release's")
	f.StringVar(&o.Network, "network", "", "bridge (qemu, xl) or network (libvirt) for the guest (default: user network; xl: none)")
	f.StringVar(&accel, "accel", "auto", "auto, kvm or tcg: hardware virtualization or emulation")
	f.BoolVar(&o.AllowExternal, "allow-external", false, "accept images that name other files")
	return cmd
}

func configArgs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []string{"qemu", "xl", "libvirt"}, cobra.ShellCompDirectiveNoFileComp
	}
	return completeInMounts(cmd, args, typed)
}

// Limits of what is looked at in a directory.
const (
	maxConfigFiles = 10000
	maxConfigDepth = 8
)

// planMachine looks at a release through its directory.
func planMachine(dir string, o hvconfig.Options) (*hvconfig.Machine, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	names, err := releaseFiles(root)
	if err != nil {
		return nil, err
	}
	exists := func(name string) bool {
		info, err := root.Lstat(filepath.FromSlash(name))
		return err == nil && info.Mode().IsRegular()
	}
	if exists("feed.xml") && exists(".vmcastfs/status.json") {
		return nil, usagef("%s is the mount, not a release in it; `ls %s` shows them", dir, dir)
	}
	if o.Joined = joinedDisk(dir); o.Joined.Name != "" {
		names = slices.DeleteFunc(names, func(name string) bool { return name == o.Joined.Name })
	}
	d, err := readDescription(root, names)
	if err != nil {
		return nil, err
	}
	if o.Dir = dir; o.Name == "" {
		o.Name = filepath.Base(dir)
	}
	drives, notes, err := hvconfig.Choose(d, names, exists)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	files := make(map[string]hvconfig.File, len(drives))
	for _, v := range drives {
		f, err := lookAt(root, v.File)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		files[v.File] = f
	}
	m, err := hvconfig.New(d, drives, files, exists, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m.Notes = append(m.Notes, notes...)
	return m, nil
}

// releaseFiles lists the regular files below the directory, sorted.
func releaseFiles(root *os.Root) ([]string, error) {
	var names []string
	err := fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.Count(name, "/") >= maxConfigDepth:
			return fs.SkipDir
		case entry.Type().IsRegular():
			names = append(names, name)
		}
		if len(names) > maxConfigFiles {
			return fmt.Errorf("more than %d files; is it the directory of one release?", maxConfigFiles)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}

// joinedDisk asks a mount for the disk that it makes of partition images.
func joinedDisk(dir string) (j hvconfig.Joined) {
	const name = "disk.img"
	value := make([]byte, 64<<10)
	n, err := unix.Lgetxattr(filepath.Join(dir, name), "user.vmcast.parts", value)
	if err != nil {
		return j
	}
	for line := range strings.Lines(string(value[:n])) {
		number, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		part, err := strconv.Atoi(number)
		if !ok || err != nil {
			return hvconfig.Joined{}
		}
		j.Parts = append(j.Parts, hvconfig.Part{Number: part, File: file})
	}
	j.Name = name
	return j
}

// readDescription reads what describes the machine; without any it is empty.
func readDescription(root *os.Root, names []string) (*xvm.Description, error) {
	candidates := []string{"xvm.xml", "description.xml"}
	for _, name := range names {
		if !strings.Contains(name, "/") && strings.EqualFold(filepath.Ext(name), ".ovf") {
			candidates = append(candidates, name)
		}
	}
	for _, name := range append(candidates, xvm.XVAName) {
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(f, xvm.MaxDescriptionSize+1))
		f.Close()
		if err != nil {
			return nil, err
		}
		d, err := xvm.ParseDescription(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return d, nil
	}
	return &xvm.Description{}, nil
}

// lookAt recognizes an image by its first and last bytes.
func lookAt(root *os.Root, name string) (hvconfig.File, error) {
	f, err := root.Open(filepath.FromSlash(name))
	if err != nil {
		return hvconfig.File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hvconfig.File{}, err
	}
	size := info.Size()
	head := make([]byte, min(size, xvm.SniffHead))
	tail := make([]byte, min(size, xvm.SniffTail))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return hvconfig.File{}, err
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return hvconfig.File{}, err
	}
	boot := len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa
	return hvconfig.File{Name: name, Size: size, Disk: xvm.Sniff(head, tail), Boot: boot}, nil
}
