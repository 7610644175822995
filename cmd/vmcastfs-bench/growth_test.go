package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"

	"vmcastfs/feed"
)

// Sizes of what must not matter.
const (
	manyReleases = 10_000
	manyMembers  = 10_000
	memberSize   = 64 << 10
	hugeImage    = 2 << 40
)

// growthTests look at what is large: a feed, a package, an image.
func (b *bench) growthTests() []test {
	return []test{
		{"10000 releases, LAN", b.manyReleases},
		{"package of 10000 files, LAN", b.manyMembers},
		{"image of 2 TiB, LAN", b.hugeImage},
	}
}

// manyReleases mounts a long feed and lists it as ls -l does.
func (b *bench) manyReleases(ctx context.Context) ([]result, error) {
	const path = "/many.xml"
	entries := make([]feed.Entry, manyReleases)
	for i := range entries {
		id := fmt.Sprintf("machine-%05d", i)
		entries[i] = feed.Entry{
			ID: id, Title: fmt.Sprintf("Machine %d", i), URL: b.site.URL() + "/many/" + id + ".xvm",
			Length: 1 << 30, Published: published.Add(time.Duration(i) * time.Minute),
			NotesHTML: fmt.Sprintf("<p>What is new in release %d, in a sentence of usual length.</p>", i),
		}
	}
	if err := b.site.publish(path, entries...); err != nil {
		return nil, err
	}
	b.site.through(lan)
	var m *mounted
	mounting, err := b.measure("", func() (time.Duration, error) {
		began := time.Now()
		var err error
		m, err = b.mount(ctx, path, b.fresh("cache"))
		return time.Since(began), err
	})
	if err != nil {
		return nil, err
	}
	listing, err := b.measure("", func() (time.Duration, error) { return list(m.dir, manyReleases) })
	mounting.Test, mounting.Subject, mounting.Target = "10000 releases, LAN", "mount", &target{Most: 2}
	listing.Test, listing.Subject, listing.Target = "10000 releases, LAN", "ls -l", &target{NoBytes: true, Memory: 200_000_000}
	listing.Memory = m.peakMemory()
	return []result{mounting, listing}, errors.Join(err, m.unmount())
}

// manyMembers opens a package of many files for the first time.
func (b *bench) manyMembers(ctx context.Context) ([]result, error) {
	var s sparseFile
	for i := range manyMembers {
		s.header(header(fmt.Sprintf("files/part-%05d.bin", i), memberSize))
	}
	return b.firstLook(ctx, &s, "package of 10000 files, LAN", &target{Memory: 200_000_000}, func(dir string) (time.Duration, error) {
		return list(filepath.Join(dir, "files"), manyMembers)
	})
}

// hugeImage reads a block near the end of an image whose size nothing may
// depend on.
func (b *bench) hugeImage(ctx context.Context) ([]result, error) {
	var s sparseFile
	h := header("huge.img", hugeImage)
	h.Format = tar.FormatGNU // ustar ends at 8 GiB
	s.header(h)
	return b.firstLook(ctx, &s, "image of 2 TiB, LAN", &target{Most: 1, Memory: 96 << 20}, func(dir string) (time.Duration, error) {
		began := time.Now()
		f, err := os.Open(filepath.Join(dir, "huge.img"))
		if err != nil {
			return 0, err
		}
		defer f.Close()
		_, err = f.ReadAt(make([]byte, 4096), hugeImage-1<<20)
		return time.Since(began), err
	})
}

// firstLook mounts a feed of one package and measures look.
func (b *bench) firstLook(ctx context.Context, s *sparseFile, name string, t *target, look func(dir string) (time.Duration, error)) ([]result, error) {
	const feedAt, packageAt = "/growth.xml", "/growth.xvm"
	s.size += 1024 // the end of the archive
	b.site.Put(packageAt, s, s.size, published, fmt.Sprintf(`"%s"`, name), "application/x-xvm")
	err := b.site.publish(feedAt, feed.Entry{ID: name, Title: "growth", URL: b.site.URL() + packageAt, Length: s.size, Published: published})
	if err != nil {
		return nil, err
	}
	b.site.through(lan)
	m, err := b.mount(ctx, feedAt, b.fresh("cache"), "complete=off")
	if err != nil {
		return nil, err
	}
	r, err := b.measure(packageAt, func() (time.Duration, error) { return look(filepath.Join(m.dir, "latest")) })
	r.Test, r.Subject, r.Target, r.Memory = name, "first look", t, m.peakMemory()
	return []result{r}, errors.Join(err, m.unmount())
}

// list is ls -l.
func list(dir string, least int) (time.Duration, error) {
	began := time.Now()
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if _, err := os.Lstat(filepath.Join(dir, e.Name())); err != nil {
			return 0, err
		}
	}
	if len(entries) < least {
		return 0, fmt.Errorf("%s has %d entries, not %d", dir, len(entries), least)
	}
	return time.Since(began), nil
}

// sparseFile is a tar archive whose members are zeros.
type sparseFile struct {
	size    int64
	headers []piece
}

type piece struct {
	off  int64
	data []byte
}

func (s *sparseFile) header(h *tar.Header) {
	var b bytes.Buffer
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		panic(err) // only a wrong constant can do that
	}
	s.headers = append(s.headers, piece{s.size, b.Bytes()})
	s.size += int64(b.Len()) + (h.Size+511)/512*512
}

func (s *sparseFile) ReadAt(p []byte, off int64) (int, error) {
	n := int(max(0, min(int64(len(p)), s.size-off)))
	clear(p[:n])
	i := sort.Search(len(s.headers), func(i int) bool {
		return s.headers[i].off+int64(len(s.headers[i].data)) > off
	})
	for ; i < len(s.headers) && s.headers[i].off < off+int64(n); i++ {
		h := s.headers[i]
		copy(p[max(0, h.off-off):n], h.data[max(0, off-h.off):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
