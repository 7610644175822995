package appliance

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"time"

	"vmcastfs/feed"
	"vmcastfs/xvm"
	"vmcastfs/xvm/pack"
)

// Names in the package.
const (
	DiskName = "disk.img"
	DataName = "data.img"
	SwapName = "swap.img"
)

// Appliance is a feed with its packages and the key that signed them.
type Appliance struct {
	Feed     []byte            // RSS, for FeedPath
	Packages map[string][]byte // by path on the server
	Key      []byte            // the publisher's public key, armored
	Disk     []byte            // plain content of the newest release's disk
	Data     []byte            // ... of its compressed image
	Swap     []byte            // ... and, with Options.Packed, of another compressed one
}

// FeedPath is where the feed goes on its server.
const FeedPath = "/vmcast.xml"

// Options shape an Appliance; zero values mean the ones given.
type Options struct {
	DiskSize int64 // 64 MiB
	DataSize int   // 4 MiB
	Chunks   int   // 24; what the boot reads
	Packed   bool  // with a block list, as `vmcastfs pack` makes them; else by the other packer
}

// A Packer makes the package of a version.
type Packer func(version string, a *Appliance, signer *xvm.Signer, at time.Time) ([]byte, error)

// Build makes an appliance with two releases whose packages lie at baseURL. other makes
// them if o.Packed is not set.
func Build(baseURL string, o Options, other Packer) (*Appliance, error) {
	if o.DiskSize == 0 {
		o.DiskSize = 64 << 20
	}
	if o.DataSize == 0 {
		o.DataSize = 4 << 20
	}
	if o.Chunks == 0 {
		o.Chunks = 24
	}
	published := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	signer, err := xvm.NewSigner("vmcastfs demo", "demo@localhost", published)
	if err != nil {
		return nil, err
	}
	a := &Appliance{Packages: make(map[string][]byte)}
	if a.Key, err = signer.PublicKey(); err != nil {
		return nil, err
	}
	channel := feed.Channel{Title: "vmcastfs demo", Self: baseURL + FeedPath, TTL: time.Hour}
	for i, version := range []string{"1.0", "1.1"} {
		at := published.AddDate(0, i, 0)
		if a.Disk, err = Disk(o.DiskSize, o.Chunks, uint64(i)); err != nil {
			return nil, err
		}
		a.Data = dataImage(o.DataSize, uint64(i))
		packer := other
		if o.Packed {
			a.Swap = dataImage(o.DataSize/8, uint64(i)+100)
			packer = packed
		}
		pkg, err := packer(version, a, signer, at)
		if err != nil {
			return nil, err
		}
		path := "/demo-" + version + ".xvm"
		a.Packages[path] = pkg
		channel.Items = append(channel.Items, feed.Entry{
			ID: "vmcastfs-demo-" + version, Title: "demo " + version, URL: baseURL + path,
			Length: int64(len(pkg)), Published: at,
			NotesHTML: "<p>A disk that boots, checks itself and switches off.</p>",
		})
	}
	a.Feed, err = channel.Marshal()
	return a, err
}

// packed makes one package with a block list: the data image compressed block by block, and the
// swap image as one ordinary stream, as most packages of others have it.
func packed(version string, a *Appliance, signer *xvm.Signer, at time.Time) ([]byte, error) {
	var swap bytes.Buffer
	z := gzip.NewWriter(&swap)
	if _, err := z.Write(a.Swap); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	description := fmt.Appendf(nil, `<?xml version="1.0" encoding="UTF-8"?>
<xvm version="1">
  <name>demo %s</name>
  <memory unit="MiB">16</memory>
  <vcpu>1</vcpu>
  <disk file="%s" target="vda"/>
  <disk file="%s" target="vdb"/>
  <disk file="%s" target="vdc"/>
</xvm>
`, version, DiskName, DataName, SwapName)
	input := func(name string, content []byte) pack.Input {
		return pack.Input{Name: name, Size: int64(len(content)), Content: bytes.NewReader(content)}
	}
	disk := input(DiskName, a.Disk)
	disk.Plain = true // so that both ways of storing an image are there
	var b bytes.Buffer
	_, err := pack.Pack(context.Background(), &b, pack.Options{
		Description: description, Time: at, Compress: true, Sign: pack.KeySign(signer),
		Inputs: []pack.Input{disk, input(DataName, a.Data), input(SwapName+".gz", swap.Bytes())},
	})
	return b.Bytes(), err
}

// dataImage is content that compresses about as a file system does.
func dataImage(size int, seed uint64) []byte {
	p := make([]byte, size)
	fill(p, seed+1000)
	for i := 0; i < len(p); i += 512 {
		clear(p[i : i+min(300, len(p)-i)])
		copy(p[i:], fmt.Sprintf("sector %d of the data image, release %d\n", i/512, seed))
	}
	return p
}
