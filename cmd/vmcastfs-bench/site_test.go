package bench

import (
	"archive/tar"
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/feed"
	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// Paths on the origin.
const (
	feedPath    = "/vmcast.xml"
	packagePath = "/machine.xvm"
	imagePath   = "/disk.img" // the bare image, for peers that know no packages
	diskName    = "disk.img"
)

// network is what lies between origin and host.
type network struct {
	name      string
	roundTrip time.Duration
	rate      int64 // bytes per second
}

var (
	wan = network{"WAN", 30 * time.Millisecond, 12_500_000}
	lan = network{"LAN", time.Millisecond, 125_000_000}
)

// site is the origin with a feed and its package.
type site struct {
	*origin.Server
	image *os.File // as published
}

var published = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newSite(imageFile, address string) (_ *site, err error) {
	s := &site{Server: origin.New()}
	origin.ListenOn(s.Server, address)
	if s.image, err = os.Open(imageFile); err != nil {
		return nil, err
	}
	if err := s.Start(); err != nil {
		return nil, err
	}
	pkg, err := newPackage(s.image)
	if err != nil {
		return nil, err
	}
	s.Put(packagePath, pkg, pkg.Size(), published, `"machine-1"`, "application/x-xvm")
	s.Put(imagePath, s.image, imageSize, published, `"disk-1"`, "application/octet-stream")
	s.Put(peerPath+diskName, s.image, imageSize, published, `"disk-1"`, "application/octet-stream")
	for _, path := range []string{peerPath, strings.TrimSuffix(peerPath, "/")} { // httpdirfs drops the slash
		s.Put(path, strings.NewReader(listing), int64(len(listing)), published, "", "text/html")
	}
	return s, s.publish(feedPath, feed.Entry{ID: "machine-1", Title: "machine", URL: s.URL() + packagePath, Length: pkg.Size(), Published: published})
}

// listing is the directory that peers see.
const listing = `<!DOCTYPE html><html><head><title>Index of /peers/</title></head><body><h1>Index of /peers/</h1>
<pre><a href="../">../</a>
<a href="` + diskName + `">` + diskName + `</a>  01-Mar-2026 12:00  1073741824
</pre></body></html>
`

// putTree serves the files below dir.
func (s *site) putTree(prefix, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		s.Put(prefix+rel, lazyFile(path), info.Size(), published, `"`+rel+`"`, "application/octet-stream")
		return err
	})
}

// lazyFile is opened for each read: there are many.
type lazyFile string

func (l lazyFile) ReadAt(p []byte, off int64) (int, error) {
	f, err := os.Open(string(l))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.ReadAt(p, off)
}

// publish puts a feed of the entries at path.
func (s *site) publish(path string, entries ...feed.Entry) error {
	channel := feed.Channel{Title: "benchmark", Self: s.URL() + path, TTL: 24 * time.Hour, Items: entries}
	text, err := channel.Marshal()
	if err != nil {
		return err
	}
	s.PutBytes(path, text)
	return nil
}

// through sets the network; every new connection costs a round trip too.
func (s *site) through(n network) {
	s.SetLatency(n.roundTrip)
	s.SetConnLatency(n.roundTrip)
	s.SetBandwidth(n.rate)
}

func (s *site) close() {
	s.Close()
	s.image.Close()
}

// machineXML describes the machine.
const machineXML = `<?xml version="1.0" encoding="UTF-8"?>
<xvm>
  <name>machine</name>
  <memory unit="MiB">512</memory>
  <vcpu>1</vcpu>
  <disk file="` + diskName + `" target="vda"/>
</xvm>
`

// newPackage puts the image into a package, what describes it first.
func newPackage(image *os.File) (*joined, error) {
	s1, s256, err := sumsOf(image)
	if err != nil {
		return nil, err
	}
	var manifest []byte
	manifest = xvm.AppendGNU(manifest, sums.Sum{Algo: sums.SHA1, Hex: s1}, diskName)
	manifest = xvm.AppendTag(manifest, sums.Sum{Algo: sums.SHA256, Hex: s256}, diskName)
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	for _, m := range []struct {
		name    string
		content []byte
	}{{"xvm.xml", []byte(machineXML)}, {"manifest.txt", manifest}} {
		if err := w.WriteHeader(header(m.name, int64(len(m.content)))); err != nil {
			return nil, err
		}
		if _, err := w.Write(m.content); err != nil {
			return nil, err
		}
	}
	if err := w.WriteHeader(header(diskName, imageSize)); err != nil {
		return nil, err
	}
	return &joined{head: head.Bytes(), body: image, tail: make([]byte, 1024)}, nil
}

func header(name string, size int64) *tar.Header {
	return &tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: published, Format: tar.FormatUSTAR}
}

// joined is head, the image, and tail in one.
type joined struct {
	head, tail []byte
	body       io.ReaderAt
}

func (j *joined) Size() int64 { return int64(len(j.head)+len(j.tail)) + imageSize }

func (j *joined) ReadAt(p []byte, off int64) (n int, err error) {
	parts := []struct {
		r    io.ReaderAt
		size int64
	}{{bytes.NewReader(j.head), int64(len(j.head))}, {j.body, imageSize}, {bytes.NewReader(j.tail), int64(len(j.tail))}}
	for _, part := range parts {
		if off < part.size && n < len(p) {
			k, err := part.r.ReadAt(p[n:n+int(min(int64(len(p)-n), part.size-off))], off)
			n += k
			if err != nil && err != io.EOF {
				return n, err
			}
			off += int64(k)
		}
		off -= part.size
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// sumsOf computes SHA-1 and SHA-256 side by side.
func sumsOf(f *os.File) (s1, s256 string, err error) {
	h1, h256 := sha1.New(), sha256.New()
	var other sync.WaitGroup
	var err1 error
	other.Go(func() { _, err1 = io.Copy(h1, io.NewSectionReader(f, 0, imageSize)) })
	_, err = io.Copy(h256, io.NewSectionReader(f, 0, imageSize))
	other.Wait()
	if err == nil {
		err = err1
	}
	if err != nil {
		return "", "", fmt.Errorf("sum up the image: %w", err)
	}
	return hex.EncodeToString(h1.Sum(nil)), hex.EncodeToString(h256.Sum(nil)), nil
}
