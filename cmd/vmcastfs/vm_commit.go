package main

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/machines"
	"vmcastfs/fs/catalog/bases"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

func vmCommitCommand(v *vmEnv) *cobra.Command {
	c := packCall{}
	cmd := &cobra.Command{
		Use:   "commit NAME -o OUT.xvm [flags]",
		Short: "pack a machine that is stopped as a new package",
		Long: `commit makes a package of a release and what a machine wrote: its disks take the
place of the images that they lie on. Description, kernel and ramdisk are those
of the release. A host that has the release fetches only what the machine
changed, where both have block lists, as packages of pack and commit do.

The base is read whole for that, and fetched if need be. For a while there must
be room for the disks in the machines' directory, and for the package a second
time beside OUT.xvm. The machine stays as it is. publish puts the package into a
feed.`,
		Example: `  vmcastfs vm commit web1 -o vm/web-1.1.xvm --sign key.asc
  vmcastfs publish --base-url https://example.org/vm/ vm/`,
		Args: oneMachine, ValidArgsFunction: v.completeMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.out == "" {
				return usagef("commit needs -o OUT.xvm")
			}
			m, done, err := v.machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer done()
			return v.commit(cmd.Context(), m, c)
		},
	}
	c.add(cmd)
	return cmd
}

func (v *vmEnv) commit(ctx context.Context, m *machines.Machine, c packCall) error {
	b, err := checkBase(ctx, m.Record)
	if err != nil {
		return err
	}
	release, err := stopped(ctx, m)
	if err != nil {
		return err
	}
	defer release()
	defer m.Sweep()
	root, err := os.OpenRoot(b.dir)
	if err != nil {
		return withCode(exitFailed, err)
	}
	defer root.Close()
	d, err := c.describe(root, m)
	if err != nil {
		return withCode(exitFailed, err)
	}
	for _, im := range m.Images {
		images, err := flatten(ctx, m, b, im)
		if err != nil {
			return v.explain(m.Work, err)
		}
		c.images = append(c.images, images...)
		if m.Disk == "snapshot" {
			defer machines.Deactivate(context.WithoutCancel(ctx), m.DiskPath(im.Disk)) //nolint:errcheck // the next command tries again
		}
	}
	c.addRest(root, b.dir, d)
	if m.Kernel != "" {
		fmt.Fprintf(v.stderr, "vmcastfs: the kernel %s is not in the package: it is not of the release\n", m.Kernel)
	}
	c.blockSize = blockSizeOf(root)
	return v.pack(ctx, c)
}

// describe finds what describes the machine in the release, or writes it.
func (c *packCall) describe(root *os.Root, m *machines.Machine) (*xvm.Description, error) {
	name, d, err := describedIn(root, "xvm.xml", "description.xml")
	if name != "" {
		c.description = filepath.Join(root.Name(), name)
		return d, err
	}
	type disk struct {
		File string `xml:"file,attr"`
	}
	text := struct {
		XMLName xml.Name `xml:"xvm"`
		Name    string   `xml:"name"`
		Memory  int      `xml:"memory,omitempty"`
		CPUs    int      `xml:"vcpu,omitempty"`
		Disks   []disk   `xml:"disk"`
	}{Name: m.Name, Memory: m.MemoryMiB, CPUs: m.CPUs}
	for _, im := range m.Images {
		text.Disks = append(text.Disks, disk{im.File})
	}
	raw, err := xml.MarshalIndent(text, "", "  ")
	if err != nil {
		return nil, err
	}
	c.description = m.Temp("xvm.xml")
	if err := os.WriteFile(c.description, raw, 0o600); err != nil {
		return nil, err
	}
	return xvm.ParseDescription(raw)
}

// flatten makes of a disk what is packed in the place of its base: of one that is
// made of partition images, those.
func flatten(ctx context.Context, m *machines.Machine, b *base, im bases.Image) ([]packImage, error) {
	path, base := m.DiskPath(im.Disk), filepath.Join(b.dir, im.File)
	switch m.Disk {
	case "snapshot":
		if err := machines.Activate(ctx, base, path, im.Size); err != nil {
			return nil, err
		}
		path = machines.DevicePath(im.Disk)
	case "qcow2":
		flat := m.Temp(im.Disk)
		if _, err := machines.Run(ctx, "qemu-img", "convert", "-f", "qcow2", "-O", im.Format, path, flat); err != nil {
			return nil, err
		}
		path = flat
	}
	parts := partNames(b.dir, im.File)
	if len(parts) == 0 {
		return []packImage{{path: path, name: im.File}}, nil
	}
	if err := sameTable(path, base, im.Size); err != nil {
		return nil, err
	}
	var images []packImage
	off := int64(tableSize)
	for _, name := range parts {
		info, err := os.Stat(filepath.Join(b.dir, name))
		if err != nil {
			return nil, err
		}
		images = append(images, packImage{path, name, off, info.Size()})
		off += (info.Size() + tableSize - 1) / tableSize * tableSize
	}
	return images, nil
}

// tableSize is what a mount leaves before the first partition of a disk that it
// makes, and what partitions are aligned to.
const tableSize = 1 << 20

// sameTable refuses a disk whose partitions the guest has changed.
func sameTable(path, base string, size int64) error {
	disk, err := os.Open(path)
	if err != nil {
		return err
	}
	defer disk.Close()
	was, err := os.Open(base)
	if err != nil {
		return err
	}
	defer was.Close()
	for _, at := range []int64{0, size - tableSize} { // the last MiB is of the GPT, if there is one
		a, b := make([]byte, tableSize), make([]byte, tableSize)
		if _, err := disk.ReadAt(a, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if _, err := was.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		gpt := bytes.HasPrefix(b[tableSize-512:], []byte("EFI PART"))
		if (at == 0 || gpt) && !bytes.Equal(a, b) {
			return fmt.Errorf("the guest has changed the partition table, and %s is made of images of partitions: pack the disk by yourself, with vmcastfs pack", base)
		}
	}
	return nil
}

// addRest adds the other files of the release that the description names.
func (c *packCall) addRest(root *os.Root, dir string, d *xvm.Description) {
	names := []string{d.Kernel, d.Ramdisk}
	for _, drive := range d.Drives {
		names = append(names, drive.File)
	}
	for _, name := range names {
		if _, plain := seekable.PlainName(name); plain != "" && plain != name {
			if _, err := root.Stat(plain); err == nil {
				name = plain
			}
		}
		has := slices.ContainsFunc(c.images, func(im packImage) bool { return im.name == name })
		if _, err := root.Stat(name); name != "" && err == nil && !has {
			c.images = append(c.images, packImage{path: filepath.Join(dir, name), name: name})
		}
	}
	if _, err := root.Stat(xvm.ProfileName); err == nil {
		c.profile = filepath.Join(dir, xvm.ProfileName)
	}
}

// blockSizeOf is the block size of the release's block list: blocks of another size
// have other sums.
func blockSizeOf(root *os.Root) string {
	f, err := root.Open(xvm.BlockListName)
	if err != nil {
		return "64K"
	}
	defer f.Close()
	head := make([]byte, 4096)
	n, _ := f.Read(head) // a short read is enough, or there is no list
	for line := range strings.Lines(string(head[:n])) {
		if size, ok := strings.CutPrefix(strings.TrimSpace(line), "block "); ok {
			return size
		}
	}
	return "64K"
}
