package fs

import (
	"context"
	"slices"
	"sync"
	"syscall"
	"time"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// statusNode is a file of .vmcastfs: status.json, or what is known of a boot. Like
// the files of /proc it has size 0 and is read to its end; a size would be that of
// another moment.
type statusNode struct {
	node
	id   fusefs.StableAttr
	make func() []byte // nil: it is there no more
}

func newStatusNode(v *vfs, name string, make func() []byte) *statusNode {
	return &statusNode{node: node{vfs: v}, id: identity(syscall.S_IFREG, "", 0, name), make: make}
}

func (s *statusNode) attr(out *fuse.Attr) { s.vfs.setAttr(out, s.id, 1, 0, time.Now()) }

var _ = (fusefs.NodeGetattrer)((*statusNode)(nil))

func (s *statusNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	s.attr(&out.Attr)
	return 0
}

var _ = (fusefs.NodeOpener)((*statusNode)(nil))

func (s *statusNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writing(flags) {
		return nil, 0, syscall.EROFS
	}
	raw := s.make()
	if raw == nil {
		return nil, 0, syscall.ENOENT
	}
	h := s.vfs.statuses.open(raw)
	return h, fuse.FOPEN_DIRECT_IO | fuse.FOPEN_NOFLUSH, 0
}

// maxStatuses bounds the contents of status.json that open handles hold, in bytes.
const maxStatuses = 64 << 20

// statuses are the contents of status.json that open handles hold. Handles that got
// the same content share it. Beyond maxStatuses the oldest content is given up, and
// reading a handle that had it fails with ESTALE: whoever opens the file without
// end, and keeps it open, must not take all memory.
//
// mu guards what follows it, and the fields of the contents; it is a leaf.
type statuses struct {
	mu    sync.Mutex
	held  []*statusContent // the oldest first
	bytes int
}

type statusContent struct {
	raw   []byte // nil: given up
	opens int
}

func (s *statuses) open(raw []byte) *statusHandle {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.held); n > 0 && &s.held[n-1].raw[0] == &raw[0] {
		s.held[n-1].opens++
		return &statusHandle{s, s.held[n-1]}
	}
	c := &statusContent{raw: raw, opens: 1}
	s.held = append(s.held, c)
	s.bytes += len(raw)
	for s.bytes > maxStatuses && len(s.held) > 1 {
		s.drop(s.held[0])
	}
	return &statusHandle{s, c}
}

// drop gives up a content that is held; mu is held.
func (s *statuses) drop(c *statusContent) {
	s.bytes -= len(c.raw)
	c.raw = nil
	s.held = slices.DeleteFunc(s.held, func(h *statusContent) bool { return h == c })
}

// statusHandle is an open status.json.
type statusHandle struct {
	from    *statuses
	content *statusContent
}

var _ = (fusefs.FileReader)((*statusHandle)(nil))

func (h *statusHandle) Read(ctx context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	h.from.mu.Lock()
	raw := h.content.raw
	h.from.mu.Unlock()
	if raw == nil {
		return nil, syscall.ESTALE
	}
	return bytesHandle(raw).Read(ctx, dest, off)
}

var _ = (fusefs.FileReleaser)((*statusHandle)(nil))

func (h *statusHandle) Release(context.Context) syscall.Errno {
	h.from.mu.Lock()
	defer h.from.mu.Unlock()
	if h.content.opens--; h.content.opens == 0 && h.content.raw != nil {
		h.from.drop(h.content)
	}
	return 0
}
