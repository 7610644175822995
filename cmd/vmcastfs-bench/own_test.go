package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"vmcastfs/feed"
)

// Where the package made by `vmcastfs pack` lies.
const (
	ownFeed    = "/own.xml"
	ownPackage = "/own.xvm"
)

// own replays the boot from a package of our own making: compressed block by
// block, with a block list and the profile of an earlier boot.
func (b *bench) own(ctx context.Context, n network, name string, t *target) ([]result, error) {
	if err := b.pack(ctx); err != nil {
		return nil, err
	}
	b.site.through(n)
	m, err := b.mount(ctx, ownFeed, b.fresh("cache"))
	if err != nil {
		return nil, err
	}
	r, err := b.measure(ownPackage, func() (time.Duration, error) { return b.replay(m.image()) })
	r.Test, r.Subject, r.Target, r.Memory = name, "vmcastfs, own package", t, m.peakMemory()
	return []result{r}, errors.Join(err, m.unmount())
}

// pack makes the package, once.
func (b *bench) pack(ctx context.Context) error {
	file := b.path("own.xvm")
	if _, err := os.Stat(file); err != nil {
		b.say("packing the image")
		description, profile, image := b.path("xvm.xml"), b.path("own.profile"), b.path(diskName)
		_ = os.RemoveAll(b.path(diskName))
		if err := errors.Join(
			os.WriteFile(description, []byte(machineXML), 0o644),
			os.WriteFile(profile, b.profileText(), 0o644),
			os.Link(b.site.image.Name(), image),
		); err != nil {
			return err
		}
		out, err := exec.CommandContext(ctx, b.binary, "pack", "-o", file, "--profile", profile, description, image).CombinedOutput()
		if err != nil {
			return fmt.Errorf("pack: %w: %s", err, out)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.site.Put(ownPackage, lazyFile(file), info.Size(), published, `"own-1"`, "application/x-xvm")
	return b.site.publish(ownFeed, feed.Entry{ID: "own-1", Title: "machine", URL: b.site.URL() + ownPackage, Length: info.Size(), Published: published})
}

// profileText is the trace as a boot profile, as a publisher would ship it.
func (b *bench) profileText() []byte {
	text := []byte("vmcast-profile 1\n")
	for _, r := range b.trace {
		text = fmt.Appendf(text, "%s %d %d\n", diskName, r.Off, r.Len)
	}
	return text
}
