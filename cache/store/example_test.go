package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"

	"vmcastfs/cache/store"
)

// Blocks are written once, and read again until they are evicted.
func Example() {
	dir, err := os.MkdirTemp("", "store")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	s, err := store.Open(store.Options{Dir: dir + "/cache", Limit: 1 << 30})
	if err != nil {
		log.Fatal(err)
	}
	defer s.Close()

	identity := sha256.Sum256([]byte("https://example.org/root.img, version 1"))
	const size, blockSize = 10_000, 4096
	f, err := s.File(store.Key(hex.EncodeToString(identity[:])), size, blockSize)
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	p := make([]byte, blockSize)
	if _, err := f.ReadBlock(2, p); errors.Is(err, store.ErrAbsent) {
		fmt.Println("block 2 has to be fetched")
	}
	last := make([]byte, size-2*blockSize) // the last block is short
	copy(last, "content")
	if err := f.WriteBlock(2, last); err != nil {
		log.Fatal(err)
	}
	n, err := f.ReadBlock(2, p)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("block 2 has %d bytes: %s…\n", n, p[:7])
	fmt.Println("the next missing block is", f.NextMissing(0))
	// Output:
	// block 2 has to be fetched
	// block 2 has 1808 bytes: content…
	// the next missing block is 0
}
