package bundle

import (
	"context"
	"errors"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// candidate is an image that may be that of a partition.
type candidate struct {
	file   *File  // of an image
	target string // as described, "xvda1", or ""
	told   bool   // by its target or its name: only a look can say otherwise
}

// candidates lists what may be images of partitions. These are the disks that the
// description names, in its order, or else all that might be one, in the order of
// the archive. Usable tells which files may be looked at.
func candidates(d xvm.Description, members []xvm.Member, xva []xvm.XVADisk, files map[string]*File, usable func(*File) bool) []candidate {
	var out []candidate
	add := func(name, target string) {
		f := files[name]
		if f == nil || f.image() == nil || !usable(f) || slices.ContainsFunc(out, func(c candidate) bool { return c.file == f }) {
			return
		}
		c := candidate{file: f, target: target}
		_, number := c.place()
		c.told = number > 0
		out = append(out, c)
	}
	plain := func(name string) string { // of the content of a compressed member
		if format, plain := seekable.PlainName(name); format != "" && files[plain] != nil {
			return plain
		}
		return name
	}
	for _, v := range d.Drives {
		if !v.CDROM && !v.Floppy {
			add(plain(v.File), v.Target)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, m := range members {
		name := plain(m.Name)
		if name != d.Kernel && name != d.Ramdisk && mayBeRaw(name) {
			add(name, "")
		}
	}
	for _, d := range xva {
		add(d.Name, "")
	}
	return out
}

// mayBeRaw leaves out what need not be looked at.
func mayBeRaw(name string) bool {
	if format, _ := seekable.PlainName(name); format != "" {
		return false
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".qcow2", ".qcow", ".qed", ".vmdk", ".vhd", ".vhdx", ".vdi", ".hdd", ".iso", ".dmg":
		return false
	}
	return !xvm.NoDisk(name)
}

// place is the disk and the number of the partition that the image is told to be.
// Its target tells ("xvda" and 1 of "xvda1"), or the name that the draft gives
// partition images (imagefile, imagefile2, …). Number 0: nothing tells.
func (c candidate) place() (disk string, number int) {
	name := path.Base(c.file.name)
	if c.target == "" && name == "imagefile" {
		return name, 1
	}
	for _, s := range []string{c.target, name} {
		disk = strings.TrimRight(s, "0123456789")
		number, err := strconv.Atoi(s[len(disk):])
		if disk != "" && err == nil && number > 0 && number <= image.MaxPartitions && (s == c.target || disk == "imagefile") {
			return disk, number
		}
	}
	return "", 0
}

// isPartition tells whether an image is that of a partition: it begins with a
// file system and cannot boot by itself. One that is told to be a partition is
// taken for it unless it shows to be something else.
func (c candidate) isPartition(s SeenImage) bool {
	if s.Format != "raw" {
		return false
	}
	switch s.Kind {
	case "ext2", "ext3", "ext4", "xfs", "btrfs", "swap", "squashfs", "f2fs", "lvm":
		return c.told || !s.Boot
	case "mbr", "gpt", "iso9660":
		return false
	}
	return c.told
}

// errUnseen: an image is checked whole before its first byte is served, and is too large
// to be fetched for a look.
var errUnseen = errors.New("it would be fetched whole for a look at it")

// look reads what the image is recognized by: its first block, which the cache
// keeps, and no more than that. An image that is fetched whole for that must not be
// larger than most.
func (c candidate) look(ctx context.Context, most int64) (SeenImage, error) {
	if err := c.file.refused(); err != nil {
		return SeenImage{}, err
	}
	im := c.file.image()
	file, err := im.Acquire(ctx)
	if err != nil {
		return SeenImage{}, err
	}
	defer im.Drop()
	if im.Waits(file) && im.Size() > most {
		return SeenImage{}, errUnseen
	}
	head := make([]byte, cache.DefaultBlockSize)
	n, err := file.ReadAt(cache.Narrowly(ctx), head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return SeenImage{}, err
	}
	disk := xvm.Sniff(head[:n], nil)
	return SeenImage{disk.Format, disk.Kind, n >= 512 && head[510] == 0x55 && head[511] == 0xaa}, nil
}
