package cache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"os"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// A file is read from a source once, and from the disk from then on.
func Example() {
	dir, err := os.MkdirTemp("", "cache")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	st, err := store.Open(store.Options{Dir: dir + "/cache"})
	if err != nil {
		log.Fatal(err)
	}
	defer st.Close()
	c, err := cache.New(cache.Options{Store: st, Memory: 1 << 20})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()

	image := bytes.Repeat([]byte("a disk image. "), 10_000)
	remote := source.Func(func(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
		fmt.Printf("%d bytes are fetched from %d on\n", n, off)
		return io.NopCloser(io.NewSectionReader(bytes.NewReader(image), off, n)), nil
	})
	key, sum := sha256.Sum256([]byte("https://example.org/root.img, version 1")), sha256.Sum256(image)
	f, err := c.Open(cache.Spec{
		Key: store.Key(hex.EncodeToString(key[:])), Label: "root.img", Size: int64(len(image)), Source: remote,
		Sums: []sums.Sum{{Algo: "sha256", Hex: hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	ctx := context.Background()
	for range 2 {
		p := make([]byte, 12)
		if _, err := f.ReadAt(ctx, p, 14); err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s\n", p)
	}
	if err := f.Complete(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println("the file is", f.State())
	// Output:
	// 140000 bytes are fetched from 0 on
	// a disk image
	// a disk image
	// the file is verified
}
