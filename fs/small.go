package fs

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// feedNode is feed.xml as one snapshot has it.
type feedNode struct {
	node
	id      fusefs.StableAttr
	content []byte
	time    time.Time
}

func newFeedNode(v *vfs, snap *catalog.Snapshot) *feedNode {
	n := &feedNode{node: node{vfs: v}, content: snap.FeedXML(), time: snap.FeedTime()}
	sum := sha256.Sum256(n.content)
	n.id = identity(syscall.S_IFREG, "", 0, feedName)
	n.id.Gen = binary.BigEndian.Uint64(sum[:]) ^ uint64(n.time.UnixNano())
	return n
}

func (f *feedNode) attr(out *fuse.Attr) {
	f.vfs.setAttr(out, f.id, 1, int64(len(f.content)), f.time)
}

var _ = (fusefs.NodeGetattrer)((*feedNode)(nil))

func (f *feedNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	f.attr(&out.Attr)
	out.SetTimeout(foreverish)
	return 0
}

var _ = (fusefs.NodeOpener)((*feedNode)(nil))

func (f *feedNode) Open(_ context.Context, flags uint32) (fusefs.FileHandle, uint32, syscall.Errno) {
	if writing(flags) {
		return nil, 0, syscall.EROFS
	}
	return bytesHandle(f.content), fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_NOFLUSH, 0
}

// latestNode is the link to one release.
type latestNode struct {
	node
	id     fusefs.StableAttr
	target string
	time   time.Time
}

func newLatestNode(v *vfs, target string, snap *catalog.Snapshot) *latestNode {
	n := &latestNode{node: node{vfs: v}, target: target, time: snap.FeedTime()}
	if r, ok := snap.Release(target); ok {
		n.time = firstTime(r.Published(), n.time)
	}
	n.id = identity(syscall.S_IFLNK, target, uint64(n.time.UnixNano()), latestName)
	return n
}

func (l *latestNode) attr(out *fuse.Attr) {
	l.vfs.setAttr(out, l.id, 1, int64(len(l.target)), l.time)
}

var _ = (fusefs.NodeGetattrer)((*latestNode)(nil))

func (l *latestNode) Getattr(_ context.Context, _ fusefs.FileHandle, out *fuse.AttrOut) syscall.Errno {
	l.attr(&out.Attr)
	out.SetTimeout(foreverish)
	return 0
}

var _ = (fusefs.NodeReadlinker)((*latestNode)(nil))

func (l *latestNode) Readlink(context.Context) ([]byte, syscall.Errno) {
	return []byte(l.target), 0
}

// bytesHandle is an open file that is in memory. Nobody writes to the bytes.
type bytesHandle []byte

var _ = (fusefs.FileReader)(bytesHandle(nil))

func (b bytesHandle) Read(_ context.Context, dest []byte, off int64) (fuse.ReadResult, syscall.Errno) {
	if off < 0 || off >= int64(len(b)) {
		return fuse.ReadResultData(nil), 0
	}
	return fuse.ReadResultData(b[off:min(int64(len(b)), off+int64(len(dest)))]), 0
}
