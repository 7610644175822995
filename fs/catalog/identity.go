package catalog

import (
	"encoding/binary"
	"encoding/hex"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// inode is a stable number for a file, from what its bytes are.
func inode(key store.Key) uint64 {
	raw, err := hex.DecodeString(string(key[:16]))
	if err != nil {
		return 2 // keyOf made it: cannot be
	}
	n := binary.BigEndian.Uint64(raw) >> 1 // some tools take inodes for signed
	return max(n, 1<<16)                   // small ones belong to the mount's own nodes
}

// plainKey is the part of its key that tells plain content from what is stored.
// It says which decoder it comes from. The gzip decoder of the first version was
// wrong about some streams: its blocks, sums and verdicts are not found any more,
// and leave the cache as what nobody reads.
const plainKey = "plain 2"

// identify gives the file its key. An image that is read with a block list is
// another file of the cache than without: what is in it has been checked.
func (f *File) identify(identity []string, kind, name string) {
	parts := append(identity[:len(identity):len(identity)], kind, name)
	f.bare = archive.Key(parts...)
	f.key = f.bare
	if b := f.pkg.blocks; b != nil && name != xvm.BlockListName {
		f.key = archive.Key(append(parts, "blocks", b.ID)...)
	}
}
