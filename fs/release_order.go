package fs

import (
	"context"
	"sync"
	"syscall"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// A bridge is go-fuse's, except that a file counts as open until go-fuse is
// through with its release.
//
// go-fuse takes back one reference to an inode's backing file at every release,
// after it has told us. It does so whether or not the file was opened for
// passthrough. If we entered passthrough mode in between, it would withdraw the
// backing file before the kernel has found it. That open(2), or the next, would
// fail with EIO.
type bridge struct {
	fuse.RawFileSystem
	vfs *vfs
}

func newBridge(v *vfs, o *fusefs.Options) *bridge {
	return &bridge{RawFileSystem: fusefs.NewNodeFS(v.root, o), vfs: v}
}

// releases are the handles that go-fuse is releasing, by the channel that stands
// for the request.
type releases struct{ byRequest sync.Map }

func (b *bridge) Release(_ <-chan struct{}, in *fuse.ReleaseIn) {
	var request <-chan struct{} = make(chan struct{})
	b.RawFileSystem.Release(request, in)
	if h, ok := b.vfs.releasing.byRequest.LoadAndDelete(request); ok {
		b.vfs.removeHandle(h.(*handle))
	}
}

var _ = (fusefs.FileReleaser)((*handle)(nil))

// Release is called by bridge.Release, by way of go-fuse.
func (h *handle) Release(ctx context.Context) syscall.Errno {
	h.node.vfs.releasing.byRequest.Store(ctx.Done(), h)
	return 0
}
