package catalog_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"vmcastfs/cache"
	"vmcastfs/cache/origin"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
)

// A feed of one release is opened, and the first bytes of its image are read. The
// server is one of our own.
func Example() {
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	server := origin.New()
	must(server.Start())
	defer server.Close()
	pkg := archive("root.img", append([]byte("a disk"), make([]byte, 1<<20)...))
	server.PutBytes("/debian-12.xvm", pkg)
	server.PutBytes("/vmcast.xml", fmt.Appendf(nil, `<rss version="2.0"><channel><title>Appliances</title>
		<item><title>Debian 12</title><enclosure url="debian-12.xvm" length="%d" type="application/x-xvm"/></item></channel></rss>`, len(pkg)))

	dir, err := os.MkdirTemp("", "example")
	must(err)
	defer os.RemoveAll(dir)
	st, err := store.Open(store.Options{Dir: filepath.Join(dir, "cache")})
	must(err)
	defer st.Close()
	blocks, err := cache.New(cache.Options{Store: st})
	must(err)
	defer blocks.Close()
	client, err := remote.NewClient(remote.Options{})
	must(err)
	defer client.Close()

	c := catalog.New(catalog.Config{FeedURL: server.URL() + "/vmcast.xml", Store: st, Cache: blocks, Remote: client})
	defer c.Close()
	ctx := context.Background()
	must(c.Start(ctx))
	for _, r := range c.Snapshot().Releases() {
		p, err := r.Package(ctx)
		must(err)
		for _, f := range p.Files() {
			h, err := f.Open(ctx)
			must(err)
			head := make([]byte, 6)
			_, err = h.ReadAt(ctx, head, 0)
			must(err)
			fmt.Printf("%s/%s: %d bytes, %q\n", r.Name(), f.Name(), f.Size(), head)
			must(h.Close())
		}
	}
	// Output: Debian-12/root.img: 1048582 bytes, "a disk"
}

// archive is a tar archive of one file.
func archive(name string, content []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
	w.Write(content)
	w.Close()
	return b.Bytes()
}
