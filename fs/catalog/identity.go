package catalog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"

	"vmcastfs/cache/store"
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

// identify gives the file its key. An image that is read with a block list is
// another file of the cache than without: what is in it has been checked.
func (f *File) identify(identity []string, kind, name string) {
	parts := append(identity[:len(identity):len(identity)], kind, name)
	f.bare = keyOf(parts...)
	f.key = f.bare
	if b := f.pkg.blocks; b != nil && name != xvm.BlockListName {
		f.key = keyOf(append(parts, "blocks", b.id)...)
	}
}

// keyOf hashes the parts of an identity, unambiguously.
func keyOf(parts ...string) store.Key {
	h := sha256.New()
	io.WriteString(h, "vmcastfs file 1")
	for _, part := range parts {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		io.WriteString(h, part)
	}
	return store.Key(hex.EncodeToString(h.Sum(nil)))
}
