package catalog

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
	f      *File
	target string // as described, "xvda1", or ""
	told   bool   // by its target or its name: only a look can say otherwise
}

// seenImage is what the first bytes of an image showed, as kept with the index.
type seenImage struct {
	Format, Kind string
	Boot         bool `json:",omitempty"` // its first sector ends in the boot signature
}

// candidates lists what may be images of partitions: the disks that the
// description names, in its order, or else all that might be one, in the order
// of the archive.
func (p *Package) candidates(xva []xvm.XVADisk) []candidate {
	var d xvm.Description
	if raw, ok := p.doc.Meta[p.doc.Index.Description()]; ok {
		if parsed, err := xvm.ParseDescription(raw); err == nil {
			d = *parsed
		}
	}
	var out []candidate
	add := func(name, target string) {
		f := p.byName[name]
		if f == nil || f.image == nil || f.standing().Refused != "" || slices.ContainsFunc(out, func(c candidate) bool { return c.f == f }) {
			return
		}
		c := candidate{f: f, target: target}
		_, number := c.place()
		c.told = number > 0
		out = append(out, c)
	}
	for _, v := range d.Drives {
		if !v.CDROM && !v.Floppy {
			add(p.plainOf(v.File), v.Target)
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, m := range p.doc.Index.Members {
		name := p.plainOf(m.Name)
		if name != d.Kernel && name != d.Ramdisk && mayBeRaw(name) {
			add(name, "")
		}
	}
	for _, d := range xva {
		add(d.Name, "")
	}
	return out
}

// plainOf is the name of the plain content of a compressed member.
func (p *Package) plainOf(name string) string {
	if format, plain := seekable.PlainName(name); format != "" && p.byName[plain] != nil {
		return plain
	}
	return name
}

// mayBeRaw leaves out what need not be looked at.
func mayBeRaw(name string) bool {
	if format, _ := seekable.PlainName(name); format != "" {
		return false
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".qcow2", ".qcow", ".qed", ".vmdk", ".vhd", ".vhdx", ".vdi", ".hdd", ".iso", ".dmg",
		".xml", ".txt", ".asc", ".sig", ".mf", ".ovf", ".cert", ".nvram", ".html", ".md":
		return false
	}
	return true
}

// place is the disk and the number of the partition that the image is told to
// be: by its target ("xvda" and 1 of "xvda1"), or by the name that the draft
// gives partition images (imagefile, imagefile2, …). Number 0: by nothing.
func (c candidate) place() (disk string, number int) {
	name := path.Base(c.f.name)
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

// isPartition tells what an image is: of a partition if it begins with a file
// system and cannot boot by itself; one that is told to be a partition is
// taken for it unless it shows to be something else.
func (c candidate) isPartition(s seenImage) bool {
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

// look reads what the image is recognized by: its first block, which the cache
// keeps, and no more than that.
func (c candidate) look(ctx context.Context) (seenImage, error) {
	c.f.pkg.mu.Lock()
	s, ok := c.f.pkg.kinds[c.f.name]
	c.f.pkg.mu.Unlock()
	if ok {
		return s, nil
	}
	if err := c.f.refused(); err != nil {
		return seenImage{}, err
	}
	file, err := c.f.image.Acquire(ctx)
	if err != nil {
		return seenImage{}, err
	}
	defer c.f.image.Drop()
	head := make([]byte, cache.DefaultBlockSize)
	n, err := file.ReadAt(cache.Narrowly(ctx), head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return seenImage{}, err
	}
	disk := xvm.Sniff(head[:n], nil)
	return seenImage{disk.Format, disk.Kind, n >= 512 && head[510] == 0x55 && head[511] == 0xaa}, nil
}
