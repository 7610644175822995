package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/store"
	"vmcastfs/fs"
	"vmcastfs/xvm/seekable"
)

// pin is `cache pin` and `cache unpin`. What has a path in a mount need not be
// cached yet.
func (e cacheKeeper) pin(ctx context.Context, args []string, on bool, open func() (*store.Store, error)) error {
	return eachCachedOrPath(args, open, func(path string) error { return e.pinPath(ctx, path, on) },
		func(s *store.Store, names []string) error { return e.pinNames(ctx, s, names, on) })
}

// eachCachedOrPath runs byPath on each argument that is a path, whose own cache is
// meant, and named on the others together. A path has a leading / or ., or is
// there in a mount.
func eachCachedOrPath(args []string, open func() (*store.Store, error), byPath func(string) error, named func(*store.Store, []string) error) error {
	var names []string
	var errs []error
	for _, arg := range args {
		if !isPath(arg) {
			names = append(names, arg)
		} else if err := byPath(arg); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", arg, err))
		}
	}
	if len(names) > 0 {
		s, err := open()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, named(s, names), s.Close())
	}
	return withCode(exitFailed, errors.Join(errs...))
}

func (e cacheKeeper) pinNames(ctx context.Context, s *store.Store, names []string, on bool) error {
	more := make(map[store.Key]int64)
	if err := eachCached(s, names, func(i store.Info) error {
		more[i.Key] = max(i.Size, 0)
		return nil
	}); err != nil {
		return err
	}
	if on {
		if err := roomToPin(s, more, cacheLimit(ctx, s.Stats().Dir)); err != nil {
			return err
		}
	}
	return eachCached(s, names, func(i store.Info) error {
		if on {
			return s.Keep(i.Key, i.Size)
		}
		return s.Unkeep(i.Key)
	})
}

// cacheLimit is what a cache may hold: by the mounts that use it, or by default.
func cacheLimit(ctx context.Context, dir string) int64 {
	mounts, _ := findMounts("")
	survey(ctx, mounts)
	for _, m := range mounts {
		if m.Status != nil && m.Status.Cache.Dir == dir {
			return m.Status.Cache.Limit
		}
	}
	return defaultOptions().CacheSize
}

// isPath tells whether an argument is a path, and not the name of what is cached.
func isPath(arg string) bool {
	if filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") {
		return true
	}
	mounts, err := findMounts(arg)
	if err != nil || fs.IsStale(mounts[0].Dir) {
		return false
	}
	_, err = os.Lstat(arg)
	return err == nil
}

// keyOf is the key of an image in the cache of its mount.
func keyOf(im wantedImage) (store.Key, error) {
	key := attr(im.path, "key")
	if key == "" {
		return "", fmt.Errorf("the mount does not tell where %s is in its cache: mount it again", im.path)
	}
	return store.Key(key), nil
}

func (e cacheKeeper) pinPath(ctx context.Context, arg string, on bool) (err error) {
	images, err := imagesOf(ctx, arg)
	if err != nil {
		return err
	}
	mount := images[0].mount
	cache := mount.Status.Cache
	s, err := e.openCache(cache.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	plain := make(map[string]bool)
	for _, im := range images {
		plain[im.file] = true
	}
	keys, labels := make(map[store.Key]int64), make(map[store.Key]string)
	for _, im := range images {
		if _, of := seekable.PlainName(im.file); on && of != im.file && plain[of] {
			continue // guests read what it is inflated to
		}
		key, err := keyOf(im)
		if err != nil {
			return err
		}
		keys[key] = max(im.size, 0)
		labels[key] = im.release + "/" + im.file
	}
	if on {
		if err := roomToPin(s, keys, cache.Limit); err != nil {
			return err
		}
	}
	for key, size := range keys {
		if !on {
			err = s.Unkeep(key)
		} else if err = s.Keep(key, size); err == nil {
			err = s.SetLabel(key, labels[key]) // for `cache list`, until it is cached
		}
		if err != nil {
			return err
		}
	}
	mount.look(ctx) // it notices when it is asked
	return nil
}

// roomToPin refuses pins that would leave the cache no room to work with.
func roomToPin(s *store.Store, more map[store.Key]int64, limit int64) error {
	var pinned, asked int64
	for key, size := range s.Kept() {
		if _, again := more[key]; !again {
			pinned += size
		}
	}
	for _, size := range more {
		asked += size
	}
	if limit <= 0 || pinned+asked <= limit {
		return nil
	}
	return fmt.Errorf("it may take %s, with what is pinned already %s, and the cache may hold %s: unpin others, or mount with a larger cache_size=",
		humanize.IBytes(uint64(asked)), humanize.IBytes(uint64(pinned+asked)), humanize.IBytes(uint64(limit)))
}
