package fs

import (
	"cmp"
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
	plain
	content []byte
}

func newFeedNode(v *vfs, snap *catalog.Snapshot) *feedNode {
	content := snap.FeedXML()
	sum := sha256.Sum256(content)
	id := identity(syscall.S_IFREG, "", 0, feedName)
	id.Gen = binary.BigEndian.Uint64(sum[:]) ^ uint64(snap.FeedTime().UnixNano())
	return &feedNode{newPlain(v, id, 1, len(content), snap.FeedTime), content}
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
	plain
	target string
}

func newLatestNode(v *vfs, target string, snap *catalog.Snapshot) *latestNode {
	at := snap.FeedTime()
	if r, ok := snap.Release(target); ok {
		at = cmp.Or(r.Published(), at)
	}
	id := identity(syscall.S_IFLNK, target, uint64(at.UnixNano()), latestName)
	return &latestNode{newPlain(v, id, 1, len(target), func() time.Time { return at }), target}
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
