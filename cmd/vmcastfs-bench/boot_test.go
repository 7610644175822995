package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"
)

// bootTests replay the recorded boot over a network: alone and many at once.
func (b *bench) bootTests(n network, cold, profiled *target) []test {
	name := "boot, " + n.name
	return []test{
		{name, func(ctx context.Context) ([]result, error) { return b.boot(ctx, n, name, cold, profiled) }},
		{name + ", many at once", func(ctx context.Context) ([]result, error) { return b.bootMany(ctx, n, name+", many at once") }},
	}
}

// boot replays on a cold host, again after a remount, and on another cold host
// that has been given the profile recorded by the first.
func (b *bench) boot(ctx context.Context, n network, name string, cold, profiled *target) (_ []result, err error) {
	b.site.through(n)
	cache := b.fresh("cache")
	m, err := b.mount(ctx, feedPath, cache)
	if err != nil {
		return nil, err
	}
	first, err := b.measure(packagePath, func() (time.Duration, error) { return b.replay(m.image()) })
	first.Memory = m.peakMemory()
	profile := b.fresh("boot.profile")
	if err == nil {
		err = b.exportProfile(ctx, m.image(), profile)
	}
	if err := errors.Join(err, m.unmount()); err != nil {
		return nil, err
	}
	first.Test, first.Subject, first.Target = name, "vmcastfs, cold", cold

	m, err = b.mount(ctx, feedPath, cache)
	if err != nil {
		return nil, err
	}
	again, err := b.measure(packagePath, func() (time.Duration, error) { return b.replay(m.image()) })
	if err := errors.Join(err, m.unmount()); err != nil {
		return nil, err
	}
	again.Test, again.Subject, again.Target = name, "vmcastfs, after a remount", &target{NoBytes: true}

	m, err = b.mount(ctx, feedPath, b.fresh("cache"), "profile="+profile)
	if err != nil {
		return nil, err
	}
	second, err := b.measure(packagePath, func() (time.Duration, error) { return b.replay(m.image()) })
	second.Memory = m.peakMemory()
	if err := errors.Join(err, m.unmount()); err != nil {
		return nil, err
	}
	second.Test, second.Subject, second.Target = name, "vmcastfs, second host, with the boot profile", profiled
	return []result{first, again, second}, nil
}

// bootMany compares one reader with 32, and with two mounts that share a cache
// directory, each on a cold host.
func (b *bench) bootMany(ctx context.Context, n network, name string) ([]result, error) {
	var out []result
	for _, x := range []struct {
		subject         string
		mounts, readers int
		target          *target
	}{
		{"one reader", 1, 1, nil},
		{"32 readers", 1, 32, &target{MaxRatio: 1.5, Memory: 96 << 20}},
		{"two mounts sharing a cache", 2, 1, &target{Bytes: 88e6}}, // 10 % above one
	} {
		b.site.through(n)
		cache := b.fresh("cache")
		var mounts []*mounted
		var paths []string
		var err error
		for range x.mounts {
			m, merr := b.mount(ctx, feedPath, cache)
			if merr != nil {
				err = merr
				break
			}
			mounts, paths = append(mounts, m), append(paths, m.image())
		}
		r := result{}
		if err == nil {
			r, err = b.measure(packagePath, func() (time.Duration, error) { return b.replayAll(x.readers, paths...) })
		}
		for _, m := range mounts {
			r.Memory = max(r.Memory, m.peakMemory())
			err = errors.Join(err, m.unmount())
		}
		if err != nil {
			return nil, err
		}
		r.Test, r.Subject, r.Target = name, x.subject, x.target
		if len(out) > 0 {
			r.Against = out[0].Subject
		}
		out = append(out, r)
	}
	return out, nil
}

// exportProfile writes what a mount has recorded of a boot.
func (b *bench) exportProfile(ctx context.Context, image, to string) error {
	cmd := exec.CommandContext(ctx, b.binary, "profile", "export", image)
	cmd.Stderr = b.stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("profile export: %w", err)
	}
	return os.WriteFile(to, text, 0o644)
}

// measure times do and counts what it has the origin send of path.
func (b *bench) measure(path string, do func() (time.Duration, error)) (result, error) {
	before := b.site.Stats(path)
	took, err := do()
	after := b.site.Stats(path)
	return result{
		Value: took.Seconds(), Unit: "s",
		Bytes: after.BytesSent - before.BytesSent, Requests: after.Requests - before.Requests,
	}, err
}

// readCold reads the image from its start, cold, and has curl fetch as many
// bytes over the same network.
func (b *bench) readCold(ctx context.Context, n network, size int64, name string) ([]result, error) {
	b.site.through(n)
	curl, err := b.measure(imagePath, func() (time.Duration, error) { return b.curl(ctx, imagePath, size) })
	if err != nil {
		return nil, err
	}
	curl.Test, curl.Subject = name, "curl"
	m, err := b.mount(ctx, feedPath, b.fresh("cache"))
	if err != nil {
		return nil, err
	}
	cat, err := b.measure(packagePath, func() (time.Duration, error) { return readWhole(ctx, m.image(), size) })
	cat.Memory = m.peakMemory()
	if err := errors.Join(err, m.unmount()); err != nil {
		return nil, err
	}
	cat.Test, cat.Subject, cat.Against, cat.Target = name, "vmcastfs", "curl", &target{MaxRatio: 1.05}
	return []result{curl, cat}, nil
}

// fresh is an empty place in the working directory.
func (b *bench) fresh(name string) string {
	_ = os.RemoveAll(b.path(name))
	_ = os.RemoveAll(b.path(name + "-state"))
	return b.path(name)
}
