package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/feed/show"
)

// configCommand is `vmcastfs config qemu|xl|libvirt DIR/RELEASE`.
func configCommand(e *env) *cobra.Command {
	var o hvconfig.Options
	var accel string
	var onlyOverlays bool
	cmd := &cobra.Command{
		Use:   "config [OPTIONS] qemu|xl|libvirt DIR/RELEASE",
		Short: "print what boots a release from its path",
		Long: `config prints what boots the release in the directory DIR/RELEASE of a mount: a
script for sh with the command of QEMU, a file for xl create, or a domain for
virsh define. It reads the description (xvm.xml, description.xml, an OVF
descriptor or ova.xml) and the first bytes of the images through the directory.
Only partition images for QEMU and libvirt are inflated for that.

The formats of the images are those of their content and always explicit. Names,
addresses, host paths, emulators and networks that the description asks for are
not passed on. A kernel is used if it is a file of the release, or if you name
one; for a release without a kernel, config prints the line that takes one out
of its image. root= and console= become what the guest finds there: the last
console= is the serial line, or hvc0. Disks are virtio unless the description
names a bus.

The release itself is never written to: without --overlay QEMU keeps what the
guest writes in a temporary file. libvirt and xl attach the disks read-only
then, and leave out swap. With --overlay DIR each disk gets an overlay
DIR/RELEASE-DISK.qcow2. QEMU's script makes it; for libvirt and xl the lines
that make it are in a comment and on stderr, and --only-overlays prints them
alone.

Images of partitions are one drive for QEMU and libvirt: the mount's disk.img.
xl attaches them as the partitions that they are.

"latest" is followed, so that a machine keeps the release it was made from.`,
		Example: `  eval "$(vmcastfs config qemu /srv/vmcast/latest)"
  vmcastfs config libvirt --overlay /var/lib/libvirt/images \
    --only-overlays /srv/vmcast/debian-12.5 | sh
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
			if !slices.Contains([]string{"", "pv", "pvh", "hvm"}, o.Type) {
				return usagef("--type must be pv, pvh or hvm")
			}
			kvm, err := useKVM(accel)
			if err != nil {
				return err
			}
			o.KVM = kvm
			for _, p := range []*string{&o.Overlay, &o.Kernel, &o.Ramdisk, &o.Secret} {
				if *p == "" {
					continue
				}
				abs, err := filepath.Abs(*p)
				if err != nil {
					return err
				}
				*p = abs
			}
			m, err := planMachine(cmd.Context(), e.stderr, args[1], args[0] != "xl", o)
			if cmd.Context().Err() != nil {
				return withCode(exitInterrupted, errors.New("interrupted"))
			}
			if err != nil {
				return withCode(exitFailed, err)
			}
			text, err := write(m)
			if err != nil {
				return withCode(exitFailed, err)
			}
			lines := m.Overlays(args[0] == "xl")
			switch {
			case onlyOverlays:
				text = strings.Join(append([]string{"set -e"}, lines...), "\n") + "\n"
			case len(lines) > 0 && args[0] != "qemu":
				fmt.Fprintf(e.stderr, "vmcastfs: make the overlays first, by these lines (--only-overlays prints them):\n%s\n", strings.Join(lines, "\n"))
			}
			_, err = io.WriteString(e.stdout, text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "name of the machine (default: the release's)")
	f.StringVar(&o.Overlay, "overlay", "", "directory for overlays, which keep what the guest writes")
	f.BoolVar(&onlyOverlays, "only-overlays", false, "print only the lines for sh that make the overlays")
	f.StringVar(&o.Kernel, "kernel", "", "kernel to boot instead of the release's")
	f.StringVar(&o.Ramdisk, "initrd", "", "its initial ramdisk")
	f.StringVar(&o.Append, "append", "", "kernel command line instead of the release's")
	f.StringVar(&o.Network, "network", "", "bridge (qemu, xl) or network (libvirt) for the guest (default: user network; xl: none)")
	f.StringVar(&o.Type, "type", "", "of a Xen guest: pv, pvh or hvm (default: as described)")
	f.BoolVar(&o.VNC, "vnc", false, "give the guest a display, which VNC shows on this machine (default: the serial line alone)")
	f.StringVar(&o.Secret, "secret", "", "`FILE` with the passphrase of encrypted images, for QEMU")
	f.StringVar(&accel, "accel", "auto", "auto, kvm or tcg: hardware virtualization or emulation")
	f.BoolVar(&o.AllowExternal, "allow-external", false, "accept images that name other files")
	cmd.AddCommand(configMirrorCommand(e))
	return cmd
}

func configArgs(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return []string{"qemu", "xl", "libvirt"}, cobra.ShellCompDirectiveNoFileComp
	}
	return completeInMounts(cmd, args, typed)
}

// planMachine looks at a release through its directory. Nothing is inflated but
// what joined, a disk made of partition images, needs.
func planMachine(ctx context.Context, stderr io.Writer, dir string, joined bool, o hvconfig.Options) (*hvconfig.Machine, error) {
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
	if _, err := root.Lstat(".vmcastfs/status.json"); err == nil {
		return nil, usagef("%s is the mount, not a release in it; `ls %s` shows them", dir, dir)
	}
	r := &releaseDir{dir: dir, root: root}
	if err := waitFor(ctx, stderr, "indexing", nil, r.list); err != nil {
		return nil, r.explain(ctx, "", err)
	}
	d, err := r.description()
	if err != nil {
		return nil, r.explain(ctx, "", err)
	}
	if o.Dir = dir; o.Name == "" {
		o.Name = filepath.Base(dir)
	}
	drives, notes, err := hvconfig.Choose(d, r.names, r.exists)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	files := make(map[string]hvconfig.File, len(drives))
	partitions := false
	for _, v := range drives {
		var f hvconfig.File
		err := waitFor(ctx, stderr, "looking at "+show.Text(v.File), nil, func() (err error) { f, err = r.lookAt(ctx, v.File); return err })
		if err != nil {
			return nil, r.explain(ctx, v.File, err)
		}
		files[v.File] = f
		partitions = partitions || hvconfig.IsPartition(v, f)
	}
	if joined && partitions {
		err := waitFor(ctx, stderr, "inflating partition images", r.fetched(drives), func() error { o.Joined = joinedDisk(dir); return nil })
		if err != nil {
			return nil, err
		}
	}
	m, err := hvconfig.New(d, drives, files, r.exists, o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	m.Notes = append(m.Notes, notes...)
	return m, nil
}
