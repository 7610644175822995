package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"vmcastfs/feed"
	"vmcastfs/fs/catalog"
)

// changed is the share of the blocks of the next release that are others: one of that
// many.
const changed = 50

// nextTests replay the boot of a release that came after another one.
func (b *bench) nextTests() []test {
	return []test{
		{"newest release, fetched beforehand, WAN", b.prewarmed},
		{"next release of a packed feed, 2 % changed, WAN", b.nextPacked},
		{"plain next release, previous booted here, WAN", b.nextPlain},
	}
}

// prewarmed boots a release whose boot set the mount has fetched.
func (b *bench) prewarmed(ctx context.Context) ([]result, error) {
	if err := b.pack(ctx); err != nil {
		return nil, err
	}
	b.site.through(wan)
	m, err := b.mount(ctx, ownFeed, b.fresh("cache"), "complete=off")
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		var st catalog.Status
		raw, err := os.ReadFile(filepath.Join(m.dir, ".vmcastfs/status.json"))
		if err == nil {
			err = json.Unmarshal(raw, &st)
		}
		if err == nil && len(st.Releases) > 0 && st.Releases[0].Prewarm != nil && st.Releases[0].Prewarm.State != "fetching" {
			b.say("prewarm: %+v after %s", *st.Releases[0].Prewarm, time.Since(began).Round(time.Second))
			break
		}
		if err != nil || time.Since(began) > 5*time.Minute {
			return nil, errors.Join(err, errors.New("it is not warm"), m.unmount())
		}
	}
	r, err := b.measure(ownPackage, func() (time.Duration, error) { return b.replay(m.image()) })
	r.Test, r.Subject, r.Target, r.Memory = "newest release, fetched beforehand, WAN", "vmcastfs, own package", &target{Most: 0.3, NoBytes: true}, m.peakMemory()
	return []result{r}, errors.Join(err, m.unmount())
}

// nextPacked boots a release of which 2 % differ from the one that was booted before.
func (b *bench) nextPacked(ctx context.Context) ([]result, error) {
	if err := b.pack(ctx); err != nil {
		return nil, err
	}
	const path = "/own-2.xvm"
	file := b.path("own-2.xvm")
	dir := b.path("next")
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, diskName)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	defer os.Remove(file)
	next, err := b.alter(image)
	if err != nil {
		return nil, err
	}
	defer next.Close()
	out, err := exec.CommandContext(ctx, b.binary, "pack", "-o", file, "--profile", b.path("own.profile"), b.path("xvm.xml"), image).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("pack: %w: %s", err, out)
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	b.site.through(wan)
	cache := b.fresh("cache")
	m, err := b.mount(ctx, ownFeed, cache, "complete=off")
	if err != nil {
		return nil, err
	}
	if _, err = b.replay(m.image()); err != nil {
		return nil, errors.Join(err, m.unmount())
	}
	if err := m.unmount(); err != nil {
		return nil, err
	}
	b.site.Put(path, lazyFile(file), info.Size(), published, `"own-2"`, "application/x-xvm")
	if err := b.site.publish(ownFeed,
		feed.Entry{ID: "own-2", Title: "machine 2", URL: b.site.URL() + path, Length: info.Size(), Published: published.Add(time.Hour)},
		feed.Entry{ID: "own-1", Title: "machine", URL: b.site.URL() + ownPackage, Length: info.Size(), Published: published}); err != nil {
		return nil, err
	}
	return b.next(ctx, ownFeed, path, cache, "next release of a packed feed, 2 % changed, WAN", next, &target{Most: 0.8, Bytes: 3e6})
}

// nextPlain boots a release without list and profile after the one before it.
func (b *bench) nextPlain(ctx context.Context) ([]result, error) {
	const path, at = "/machine-2.xvm", "/plain.xml"
	pkg, err := newPackage(b.site.image)
	if err != nil {
		return nil, err
	}
	first := feed.Entry{ID: "machine-1", Title: "machine", URL: b.site.URL() + packagePath, Length: pkg.Size(), Published: published}
	if err := b.site.publish(at, first); err != nil {
		return nil, err
	}
	b.site.through(wan)
	cache := b.fresh("cache")
	m, err := b.mount(ctx, at, cache, "complete=off")
	if err != nil {
		return nil, err
	}
	_, err = b.replay(m.image())
	if err = errors.Join(err, m.unmount()); err != nil {
		return nil, err
	}
	b.site.Put(path, pkg, pkg.Size(), published.Add(time.Hour), `"machine-2"`, "application/x-xvm")
	if err := b.site.publish(at, feed.Entry{ID: "machine-2", Title: "machine 2", URL: b.site.URL() + path, Length: pkg.Size(), Published: published.Add(time.Hour)}, first); err != nil {
		return nil, err
	}
	return b.next(ctx, at, path, cache, "plain next release, previous booted here, WAN", b.site.image, &target{Most: 4.5, Bytes: 48e6})
}

// next measures the boot of the newest release with what an earlier mount has left.
func (b *bench) next(ctx context.Context, at, path, cache, name string, image io.ReaderAt, t *target) ([]result, error) {
	m, err := b.mount(ctx, at, cache, "complete=off", "prewarm=off", "refresh=1h")
	if err != nil {
		return nil, err
	}
	r, err := b.measure(path, func() (time.Duration, error) {
		took, _, err := replay(m.image(), b.trace, image)
		return took, err
	})
	r.Test, r.Subject, r.Target, r.Memory = name, "vmcastfs", t, m.peakMemory()
	return []result{r}, errors.Join(err, m.unmount())
}

// alter makes a copy of the image of which one block in changed is another.
func (b *bench) alter(path string) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, io.NewSectionReader(b.site.image, 0, imageSize)); err != nil {
		return nil, err
	}
	random := rand.NewChaCha8([32]byte{7})
	block := make([]byte, 64<<10)
	for off := int64(0); off < imageSize; off += changed * int64(len(block)) {
		random.Read(block)
		if _, err := f.WriteAt(block, off+int64(len(block))); err != nil {
			return nil, err
		}
	}
	return f, nil
}
