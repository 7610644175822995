package catalog

import (
	"encoding/hex"

	"vmcastfs/cache/store"
)

// packedKey is a store.Key in half the memory: each release keeps some.
type packedKey [32]byte

// packKey is zero if the key is none of ours.
func packKey(key store.Key) (k packedKey) {
	if n, err := hex.Decode(k[:], []byte(key[:min(len(key), 2*len(k))])); err != nil || n != len(k) {
		return packedKey{}
	}
	return k
}

func packKeys(keys []store.Key) []packedKey {
	var packed []packedKey
	for _, key := range keys {
		packed = append(packed, packKey(key))
	}
	return packed
}

func unpackKeys(packed []packedKey) []store.Key {
	var keys []store.Key
	for _, k := range packed {
		keys = append(keys, store.Key(hex.EncodeToString(k[:])))
	}
	return keys
}
