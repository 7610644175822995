// Package storetest does to a store what disks and other processes do, for the tests of the rooms above it.
package storetest

import (
	"os"
	"path/filepath"
	"testing"

	"vmcastfs/cache/store"
)

// Lose makes a block of a file absent: it damages the block on the disk and has the store find that. A
// block of zeros, which takes no disk, stays.
func Lose(t testing.TB, s *store.Store, k store.Key, b int64) {
	t.Helper()
	info, err := s.Stat(k)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.OpenFile(filepath.Join(s.Stats().Dir, "files", string(k)+".data"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	var one [1]byte
	at := b * int64(info.BlockSize)
	if _, err := data.ReadAt(one[:], at); err != nil {
		t.Fatal(err)
	}
	one[0] ^= 1
	if _, err := data.WriteAt(one[:], at); err != nil {
		t.Fatal(err)
	}
	f, err := s.File(k, store.Unknown, info.BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.ReadBlock(b, make([]byte, info.BlockSize)) // which drops it
}
