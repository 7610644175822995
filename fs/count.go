package fs

import "github.com/hanwen/go-fuse/v2/fuse"

// op is a kind of request that is counted.
type op int

const (
	opLookup op = iota
	opGetattr
	opGetxattr
	opOpendir
	opReaddir
	opReadlink
	opStatfs
	opLseek
	opIoctl
	opCount
)

// opNames are those in Stats, in the order of the constants.
var opNames = [opCount]string{"lookup", "getattr", "getxattr", "opendir", "readdir", "readlink", "statfs", "lseek", "ioctl"}

// count counts a request and how it ended. That there is no such name or
// attribute is an answer, and no error.
func (b *bridge) count(o op, status fuse.Status) fuse.Status {
	c := &b.vfs.stats.ops[o]
	c.requests.Add(1)
	switch status {
	case fuse.OK:
	case fuse.ENOENT, fuse.ENODATA, fuse.ENOSYS:
		c.absent.Add(1)
	default:
		c.errors.Add(1)
	}
	return status
}

func (b *bridge) Lookup(cancel <-chan struct{}, header *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	status := b.RawFileSystem.Lookup(cancel, header, name, out)
	if status == fuse.OK && out.NodeId == 0 {
		b.count(opLookup, fuse.ENOENT) // which the kernel may remember
	} else {
		b.count(opLookup, status)
	}
	return status
}

func (b *bridge) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	return b.count(opGetattr, b.RawFileSystem.GetAttr(cancel, in, out))
}

func (b *bridge) GetXAttr(cancel <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	n, status := b.RawFileSystem.GetXAttr(cancel, header, attr, dest)
	return n, b.count(opGetxattr, status)
}

func (b *bridge) OpenDir(cancel <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	return b.count(opOpendir, b.RawFileSystem.OpenDir(cancel, in, out))
}

func (b *bridge) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return b.count(opReaddir, b.RawFileSystem.ReadDir(cancel, in, out))
}

func (b *bridge) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	return b.count(opReaddir, b.RawFileSystem.ReadDirPlus(cancel, in, out))
}

func (b *bridge) Readlink(cancel <-chan struct{}, header *fuse.InHeader) ([]byte, fuse.Status) {
	to, status := b.RawFileSystem.Readlink(cancel, header)
	return to, b.count(opReadlink, status)
}

func (b *bridge) StatFs(cancel <-chan struct{}, in *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	return b.count(opStatfs, b.RawFileSystem.StatFs(cancel, in, out))
}

func (b *bridge) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	return b.count(opLseek, b.RawFileSystem.Lseek(cancel, in, out))
}

func (b *bridge) Ioctl(cancel <-chan struct{}, in *fuse.IoctlIn, inbuf []byte, out *fuse.IoctlOut, outbuf []byte) fuse.Status {
	return b.count(opIoctl, b.RawFileSystem.Ioctl(cancel, in, inbuf, out, outbuf))
}
