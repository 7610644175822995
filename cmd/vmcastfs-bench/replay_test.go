package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"vmcastfs/cache/boottrace"
)

// replay reads path as the trace says, opening included, and compares every
// byte with the image as published.
func (b *bench) replay(path string) (time.Duration, error) {
	took, _, err := replay(path, b.trace, b.site.image)
	return took, err
}

// replay reads path as the trace says, and tells how long all and the slowest read took. It
// compares what it reads with image, unless that is nil, and does not count the time of that.
func replay(path string, trace []boottrace.Read, image io.ReaderAt) (took, worst time.Duration, err error) {
	began := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	got, want := make([]byte, 1<<20), make([]byte, 1<<20)
	var comparing time.Duration
	for _, r := range trace {
		t := time.Now()
		if _, err := f.ReadAt(got[:r.Len], r.Off); err != nil {
			return 0, 0, err
		}
		worst = max(worst, time.Since(t))
		if image == nil {
			continue
		}
		t = time.Now()
		if _, err := image.ReadAt(want[:r.Len], r.Off); err != nil {
			return 0, 0, err
		}
		if string(got[:r.Len]) != string(want[:r.Len]) {
			return 0, 0, fmt.Errorf("%s: wrong bytes at %d", path, r.Off)
		}
		comparing += time.Since(t)
	}
	return time.Since(began) - comparing, worst, nil
}

// replayAll has readers replay the paths at once and returns when the last one
// is done. One of each path compares: the processors are few.
func (b *bench) replayAll(readers int, paths ...string) (time.Duration, error) {
	errs := make([]error, readers*len(paths))
	began := time.Now()
	var all sync.WaitGroup
	for i := range errs {
		var image io.ReaderAt
		if i < len(paths) {
			image = b.site.image
		}
		all.Go(func() { _, _, errs[i] = replay(paths[i%len(paths)], b.trace, image) })
	}
	all.Wait()
	return time.Since(began), errors.Join(errs...)
}

// readWhole reads the first n bytes of path as cat does.
func readWhole(ctx context.Context, path string, n int64) (time.Duration, error) {
	began := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	p := make([]byte, 128<<10) // what cat takes
	for done := int64(0); done < n; {
		k, err := f.Read(p[:min(int64(len(p)), n-done)])
		if err == io.EOF {
			return 0, fmt.Errorf("%s ends at %d", path, done)
		}
		if err != nil {
			return 0, err
		}
		done += int64(k)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
	}
	return time.Since(began), nil
}
