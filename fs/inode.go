package fs

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

const rootIno = 1

// identity hashes what makes a node the node it is into an inode number and a
// generation, as the package comment explains.
func identity(mode uint32, release string, generation uint64, name string) fusefs.StableAttr {
	b := make([]byte, 0, 64)
	b = binary.BigEndian.AppendUint32(b, mode)
	b = binary.BigEndian.AppendUint64(b, generation)
	b = binary.BigEndian.AppendUint32(b, uint32(len(release)))
	b = append(b, release...)
	b = append(b, name...)
	h := sha256.Sum256(b)
	return fusefs.StableAttr{
		Mode: mode,
		Ino:  usableIno(binary.BigEndian.Uint64(h[:8])),
		Gen:  binary.BigEndian.Uint64(h[8:16]),
	}
}

// usableIno moves n away from the numbers with a meaning of their own. 0 is
// "choose one" to go-fuse and "deleted" to readdir, 1 is the root, ^0 is
// go-fuse's own.
func usableIno(n uint64) uint64 {
	if n <= rootIno || n == ^uint64(0) {
		return n ^ 1<<63 ^ 2
	}
	return n
}

// usableName tells whether the kernel accepts name as a directory entry. One
// that it does not would make the whole listing fail.
func usableName(name string) bool {
	return name != "" && name != "." && name != ".." &&
		len(name) <= 255 && !strings.ContainsAny(name, "/\x00")
}
