package fs

import (
	"context"
	"strings"
	"syscall"

	"vmcastfs/fs/catalog/bundle"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// dirNode is a directory inside of a release. Packages do not list them: they
// are implied by the slashes in the names of their files.
type dirNode struct {
	plain
	release *releaseNode
	path    string // in the release
}

func dirIdentity(parent releaseID, path string) fusefs.StableAttr {
	return identity(syscall.S_IFDIR, parent.name, parent.generation, path)
}

func newDirNode(r *releaseNode, path string) *dirNode {
	return &dirNode{plain: newPlain(r.vfs, dirIdentity(r.key(), path), 2, 0, r.time), release: r, path: path}
}

var _ = (fusefs.NodeLookuper)((*dirNode)(nil))

func (d *dirNode) Lookup(ctx context.Context, name string, out *fuse.EntryOut) (*fusefs.Inode, syscall.Errno) {
	return d.release.lookup(ctx, &d.Inode, d.path+"/", name, out)
}

var _ = (fusefs.NodeReaddirer)((*dirNode)(nil))

func (d *dirNode) Readdir(ctx context.Context) (fusefs.DirStream, syscall.Errno) {
	parent := d.release.StableAttr().Ino
	if i := strings.LastIndexByte(d.path, '/'); i >= 0 {
		parent = dirIdentity(d.release.key(), d.path[:i]).Ino
	}
	return d.release.list(ctx, d.path+"/", dots(d.id.Ino, parent))
}

// impliedDirs is the set of directories that the names of files imply.
func impliedDirs(files []*bundle.File) map[string]struct{} {
	var dirs map[string]struct{} // most have none
	for _, f := range files {
		name := f.Name()
		for i := strings.LastIndexByte(name, '/'); i > 0; i = strings.LastIndexByte(name, '/') {
			name = name[:i]
			if _, known := dirs[name]; known {
				break
			}
			if dirs == nil {
				dirs = make(map[string]struct{})
			}
			dirs[name] = struct{}{}
		}
	}
	return dirs
}
