package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/cache/store"
	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/cmd/internal/machines"
	"vmcastfs/fs/catalog/bases"
)

// vmCreate is one call of `vmcastfs vm create`.
type vmCreate struct {
	name, release string
	disk, engine  string
	memory, accel string
	start         bool
	options       hvconfig.Options
}

func vmCreateCommand(v *vmEnv) *cobra.Command {
	var c vmCreate
	cmd := &cobra.Command{
		Use:   "create [OPTIONS] NAME DIR/RELEASE",
		Short: "make a machine of a release, and start it with --start",
		Long: `create makes the machine NAME of the release in the directory DIR/RELEASE of a
mount. A machine that is there is never overwritten. The kinds of disks:

  qcow2     an overlay on the path, from the first second on
  raw       a copy that shares its blocks with the cache (reflink), for an image
            that is all here and verified, where the file system can
  snapshot  a block device of device-mapper on the path, for Xen

The memory is in MiB, or with a unit. The kernel is that of the package, or the
one you give. The description of the package decides the rest, as in config.`,
		Example: `  vmcastfs vm create web1 /srv/vmcast/latest --start
  vmcastfs vm create web2 /srv/vmcast/latest --for libvirt --cpus 2`,
		Args: exactArgs(2, "the NAME of the machine, and the DIR/RELEASE"),
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			return completeInMounts(cmd, args, typed)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c.name, c.release = args[0], args[1]
			return v.create(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.disk, "disk", "qcow2", "`KIND` of disks: qcow2, raw or snapshot")
	f.StringVar(&c.engine, "for", "qemu", "`HYPERVISOR`: qemu, libvirt or xl")
	f.StringVar(&c.memory, "memory", "", "`N` MiB, or 2G (default: as described)")
	f.IntVar(&c.options.CPUs, "cpus", 0, "`N` processors (default: as described)")
	f.StringVar(&c.options.Network, "network", "", "bridge (qemu, xl) or network (libvirt) `NAME` (default: user network; xl: none)")
	f.StringVar(&c.options.Kernel, "kernel", "", "kernel to boot instead of the release's")
	f.StringVar(&c.options.Ramdisk, "initrd", "", "its initial ramdisk")
	f.StringVar(&c.options.Append, "append", "", "kernel command line instead of the release's")
	f.StringVar(&c.accel, "accel", "auto", "auto, kvm or tcg: hardware virtualization or emulation")
	f.BoolVar(&c.start, "start", false, "start it; QEMU then has this terminal")
	choices := func(flag string, words ...string) {
		_ = cmd.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return words, cobra.ShellCompDirectiveNoFileComp
		}) // it fails only for a flag that is not there
	}
	choices("disk", "qcow2", "raw", "snapshot")
	choices("for", "qemu", "libvirt", "xl")
	choices("accel", "auto", "kvm", "tcg")
	return cmd
}

// check reads what the flags say.
func (c *vmCreate) check() (err error) {
	if err := bases.CheckName(c.name); err != nil {
		return usagef("%w", err)
	}
	if !slices.Contains([]string{"qcow2", "raw", "snapshot"}, c.disk) {
		return usagef("--disk must be qcow2, raw or snapshot")
	}
	if !slices.Contains([]string{"qemu", "libvirt", "xl"}, c.engine) {
		return usagef("--for must be qemu, libvirt or xl")
	}
	if c.options.KVM, err = useKVM(c.accel); err != nil {
		return err
	}
	if c.options.CPUs < 0 || c.options.CPUs > 4096 {
		return usagef("--cpus must be a number from 1 to 4096")
	}
	if c.memory != "" {
		n, err := strconv.Atoi(c.memory)
		if err != nil {
			size, sizeErr := parseSize(c.memory)
			n, err = int(size>>20), sizeErr
		}
		if err != nil || n < 1 || n > 1<<24 {
			return usagef("--memory must be a number of MiB, or a size as 2G")
		}
		c.options.MemoryMiB = n
	}
	for _, p := range []*string{&c.options.Kernel, &c.options.Ramdisk} {
		if *p == "" {
			continue
		}
		if *p, err = filepath.Abs(*p); err == nil {
			_, err = os.Stat(*p)
		}
		if err != nil {
			return usagef("%w", err)
		}
	}
	return nil
}

func (v *vmEnv) create(ctx context.Context, c vmCreate) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.disk == "snapshot" {
		if c.engine != "xl" {
			return usagef("--disk snapshot is for Xen, with --for xl: QEMU and libvirt take --disk qcow2")
		}
		if err := machines.MapperThere(); err != nil {
			return withCode(exitFailed, fmt.Errorf("--disk snapshot: %w", err))
		}
	}
	b, err := findBase(ctx, c.release)
	if err != nil {
		return err
	}
	w, err := v.open(ctx, true)
	if err != nil {
		return err
	}
	defer w.Dir.Close() //nolint:errcheck // what was written is synced
	if err := b.keeps(w.Dir.Name()); err != nil {
		return err
	}
	if err := w.Free(c.name); err != nil {
		return withCode(exitFailed, fmt.Errorf("%w; `vmcastfs vm list` shows it, and `vmcastfs vm remove %s` removes it", err, c.name))
	}
	if err := undefined(ctx, c.engine, c.name); err != nil {
		return withCode(exitFailed, err)
	}
	c.options.Name, c.options.Overlay = c.name, filepath.Dir(machines.DiskPath(w.Dir.Name(), c.name, "x"))
	if c.options.Made = hvconfig.MadeOverlay; c.disk != "qcow2" {
		c.options.Made = hvconfig.MadeCopy
	}
	m, err := onMount(ctx, b.dir, func(ctx context.Context) (*hvconfig.Machine, error) {
		return planMachine(ctx, v.stderr, b.dir, c.engine != "xl", c.options)
	})
	if err != nil {
		return withCode(exitFailed, err)
	}
	r := &bases.Record{
		Version: 1, Name: c.name, Feed: b.mount.Status.Feed.URL, GUID: b.release.ID, Release: b.release.Name, Generation: b.release.Generation,
		Mount: b.mount.Dir, Engine: c.engine, Disk: c.disk, MemoryMiB: c.options.MemoryMiB, CPUs: c.options.CPUs, Network: c.options.Network,
		Kernel: c.options.Kernel, Initrd: c.options.Ramdisk, Append: c.options.Append, Created: time.Now().UTC().Truncate(time.Second),
	}
	for _, drive := range m.Attached(c.engine == "xl") {
		im, err := onMount(ctx, drive.Path, func(context.Context) (bases.Image, error) { return b.image(drive.Path, drive.Format) })
		if err != nil {
			return withCode(exitFailed, err)
		}
		im.Disk = filepath.Base(drive.Overlay)
		r.Images = append(r.Images, im)
	}
	if len(r.Images) == 0 {
		return withCode(exitFailed, fmt.Errorf("%s has no disk that a machine could write to: `vmcastfs config %s %s` boots it as it is", b.dir, c.engine, c.release))
	}
	file, text, err := c.forEngine(m, r)
	if err != nil {
		return withCode(exitFailed, err)
	}
	disks, done, err := v.disks(r, b)
	if err != nil {
		return err
	}
	defer done()
	if err := w.Create(ctx, r, disks, map[string]string{file: text}); err != nil {
		return v.explain(w, err)
	}
	fmt.Fprintf(v.stdout, "made %s of %s: %s in %s\n", c.name, b.release.Name, c.disk, filepath.Dir(c.options.Overlay))
	for _, im := range r.Images {
		fmt.Fprint(v.stdout, wrapped("  ", fmt.Sprintf("base %s: %s", im.File, b.vouched(im)), widthOf(v.stdout)))
	}
	for _, n := range m.Notes {
		fmt.Fprint(v.stdout, wrapped("  ", n, widthOf(v.stdout)))
	}
	if !c.start {
		fmt.Fprintf(v.stdout, "start it with: vmcastfs vm start %s\n", v.withDir(c.name))
		return nil
	}
	mach, err := w.Open(c.name)
	if err != nil {
		return withCode(exitFailed, err)
	}
	defer mach.Close() //nolint:errcheck // it gives up a lock
	return v.start(ctx, mach)
}

// withDir is the name of a machine as an argument, with the directory it is in
// unless that is the default.
func (v *vmEnv) withDir(name string) string {
	if v.dir == "" {
		return name
	}
	return name + " --vms " + v.dir
}

// forEngine is the file for the hypervisor and what is in it.
func (c *vmCreate) forEngine(m *hvconfig.Machine, r *bases.Record) (file, text string, err error) {
	switch c.engine {
	case "libvirt":
		text, err = m.Libvirt()
		return "domain.xml", text, err
	case "xl":
		for i, v := range m.Drives {
			if c.disk == "snapshot" && v.Overlay != "" {
				m.Drives[i].Overlay = machines.DevicePath(filepath.Base(v.Overlay))
			}
		}
		text, err = m.XL()
		return "xl.cfg", text, err
	}
	text, err = m.QEMU()
	return "qemu.sh", strings.Replace(text, "\nqemu-system-", "\nexec qemu-system-", 1), err
}

// disks says how the disks of a machine are made afresh.
func (v *vmEnv) disks(r *bases.Record, b *base) (disks []machines.Disk, done func(), err error) {
	done = func() {}
	var st *store.Store
	if r.Disk == "raw" {
		if st, err = v.openCache(b.mount.Status.Cache.Dir); err != nil {
			return nil, nil, err
		}
		done = func() { st.Close() }
	}
	for _, im := range r.Images {
		path := filepath.Join(b.dir, im.File)
		d := machines.Disk{Name: im.Disk}
		switch r.Disk {
		case "qcow2":
			d.Make = machines.Overlay(path, im.Format)
		case "snapshot":
			if im.Format != "raw" {
				done()
				return nil, nil, withCode(exitFailed, fmt.Errorf("%s is a %s, and device-mapper takes raw images only: use --disk qcow2", path, im.Format))
			}
			d.Make = machines.CopyOnWrite(im.Size)
		case "raw":
			d.Make = func(ctx context.Context, to string) error { return reflink(ctx, st, im, path, to) }
		}
		disks = append(disks, d)
	}
	return disks, done, nil
}

// reflink makes a disk that shares its blocks with the complete cache file of an image.
func reflink(ctx context.Context, st *store.Store, im bases.Image, path, to string) error {
	if len(im.Keys) != 1 {
		return fmt.Errorf("--disk raw: %s is made of several images: use --disk qcow2", path)
	}
	info, err := st.Stat(store.Key(im.Keys[0]))
	if errors.Is(err, os.ErrNotExist) {
		info, err = store.Info{Size: im.Size}, nil
	}
	if err != nil {
		return fmt.Errorf("--disk raw: %s: %w", path, err)
	}
	if info.State == store.Verified {
		f, err := st.File(info.Key, im.Size, info.BlockSize)
		if err != nil {
			return fmt.Errorf("--disk raw: %s: %w", path, err)
		}
		defer f.Close() //nolint:errcheck // nothing is written to it
		if data := f.Data(); data != nil {
			return machines.Reflink(data, im.Size)(ctx, to)
		}
	}
	why := "it is not all here: `vmcastfs prefetch " + path + "` completes it"
	switch {
	case info.State == store.Unverified:
		why = "there is nothing to check it against"
	case info.State == store.Corrupt:
		why = "it is corrupt"
	}
	return fmt.Errorf("--disk raw takes an image that is all here and verified, and %s is not: %s. Or use --disk qcow2", path, why)
}

// explain says what to do about disks that cannot be made.
func (v *vmEnv) explain(w *machines.Work, err error) error {
	switch {
	case errors.Is(err, machines.ErrNoReflink):
		return withCode(exitFailed, fmt.Errorf("--disk raw: %w; use --disk qcow2, or put --vms beside the cache", err))
	case errors.Is(err, machines.ErrExists):
		return withCode(exitFailed, err)
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "No space left on device"): // qemu-img says so
		return withCode(exitSystem, fmt.Errorf("the disk of %s is full, and nothing was changed", w.Dir.Name()))
	}
	return withCode(exitFailed, err)
}

// useKVM tells what --accel means.
func useKVM(accel string) (bool, error) {
	switch accel {
	case "kvm", "tcg":
		return accel == "kvm", nil
	case "auto":
		_, err := os.Stat("/dev/kvm")
		return err == nil, nil
	}
	return false, usagef("--accel must be auto, kvm or tcg")
}
