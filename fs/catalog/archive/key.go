package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"

	"vmcastfs/cache/store"
)

// Key hashes the parts of an identity, unambiguously.
func Key(parts ...string) store.Key {
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
