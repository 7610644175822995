package bench

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// randomReads is how many reads of 4 KiB a test makes.
const randomReads = 200_000

// rounds is how often each comparison is made; medians count.
const rounds = 5

// warmTests compare a complete and verified image with a local file of the
// same content: read from start to end for the first time after a remount, the
// local copy not in memory; the same with it in memory; once more; and 4 KiB at
// random places.
func (b *bench) warmTests() []test {
	return []test{
		{"warm, passthrough", func(ctx context.Context) ([]result, error) {
			return b.warm(ctx, "passthrough=on", "warm, passthrough", 0.9, 0.9, 0.8)
		}},
		{"warm, without passthrough", func(ctx context.Context) ([]result, error) {
			return b.warm(ctx, "passthrough=off", "warm, without passthrough", 0, 0.6, 0.7)
		}},
	}
}

func (b *bench) warm(ctx context.Context, option, name string, first, sequential, random float64) (out []result, err error) {
	cache := b.path("warm")
	if err := b.complete(ctx, cache); err != nil {
		return nil, err
	}
	native := b.site.image.Name()
	data, err := largest(cache)
	if err != nil {
		return nil, err
	}
	pair := func(what string, least float64, prepare func() error, do func(path string) (float64, string, error)) error {
		m, err := b.mount(ctx, feedPath, cache, option, "complete=off")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, m.unmount()) }()
		both := []struct {
			subject, path string
			values        []float64
		}{{subject: "local file, " + what, path: native}, {subject: "vmcastfs, " + what, path: m.image()}}
		var unit string
		for range rounds { // in turn, since so short a time is easily disturbed
			for i := range both {
				if err := prepare(); err != nil {
					return err
				}
				v, u, err := do(both[i].path)
				if err != nil {
					return err
				}
				both[i].values, unit = append(both[i].values, v), u
			}
		}
		for i, x := range both {
			r := result{Test: name, Subject: x.subject, Value: median(x.values), Unit: unit}
			if i > 0 {
				r.Against = both[0].subject
				if least > 0 {
					r.Target = &target{MinRatio: least}
				}
			}
			out = append(out, r)
		}
		return nil
	}
	rate := func(path string) (float64, string, error) {
		took, err := readWhole(ctx, path, imageSize)
		return imageSize / 1e6 / took.Seconds(), "MB/s", err
	}
	second := func(path string) (float64, string, error) {
		if _, _, err := rate(path); err != nil {
			return 0, "", err
		}
		return rate(path)
	}
	return out, errors.Join(
		pair("first read, from disk", sequential, func() error { return errors.Join(evict(native), evict(data)) }, rate),
		pair("first read, from memory", first, func() error { return errors.Join(load(native), load(data)) }, rate),
		pair("second read", sequential, func() error { return nil }, second),
		pair("random 4 KiB", random, func() error { return nil }, func(path string) (float64, string, error) {
			if _, _, err := rate(path); err != nil {
				return 0, "", err
			}
			return readRandom(path)
		}),
	)
}

// complete fills a cache with the whole image, verified, unless it has been
// done before.
func (b *bench) complete(ctx context.Context, cache string) error {
	if _, err := largest(cache); err == nil {
		return nil
	}
	b.site.through(network{})
	m, err := b.mount(ctx, feedPath, cache)
	if err != nil {
		return err
	}
	return errors.Join(waitVerified(ctx, m.image()), m.unmount())
}

// waitVerified reads an image whole and waits until it is verified.
func waitVerified(ctx context.Context, path string) error {
	f, err := os.Open(path) // while it is open, it is completed and checked
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := readWhole(ctx, path, imageSize); err != nil {
		return err
	}
	for range 600 {
		if attr(path, "state") == "verified" {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s is %q after a minute", path, attr(path, "state"))
}

// readRandom returns reads per second.
func readRandom(path string) (float64, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	p := make([]byte, 4096)
	began := time.Now()
	for range randomReads {
		if _, err := f.ReadAt(p, rng.Int64N(imageSize/4096)*4096); err != nil {
			return 0, "", err
		}
	}
	return randomReads / time.Since(began).Seconds(), "reads/s", nil
}

// largest is the file below dir that holds the image.
func largest(dir string) (path string, err error) {
	err = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.Size() == imageSize {
			path = p
		}
		return nil
	})
	if err == nil && path == "" {
		err = fmt.Errorf("no image below %s", dir)
	}
	return path, err
}

// evict takes a file out of the page cache.
func evict(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return errors.Join(unix.Fdatasync(int(f.Fd())), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
}

// load brings a file into it.
func load(path string) error {
	_, err := readWhole(context.Background(), path, imageSize)
	return err
}
