package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"vmcastfs/cache/store"
	"vmcastfs/fs"
)

// keyAttr is the attribute that tells an image's key in the cache.
const keyAttr = "user.vmcast.key"

// pin is `cache pin` and `cache unpin`. A NAME with a leading / or ., or that is
// there in a mount, is a path, whose own cache is meant; its images need not be
// cached yet.
func (e *env) pin(ctx context.Context, args []string, on bool, open func() (*store.Store, error)) error {
	var names []string
	var errs []error
	for _, arg := range args {
		if filepath.IsAbs(arg) || strings.HasPrefix(arg, ".") || inMount(arg) {
			if err := e.pinPath(ctx, arg, on); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", arg, err))
			}
			continue
		}
		names = append(names, arg)
	}
	if len(names) > 0 {
		s, err := open()
		if err != nil {
			return errors.Join(append(errs, err)...)
		}
		errs = append(errs, eachCached(s, names, func(i store.Info) error {
			if on {
				return s.Keep(i.Key, i.Size)
			}
			return s.Unkeep(i.Key)
		}), s.Close())
	}
	return withCode(exitFailed, errors.Join(errs...))
}

// inMount tells whether there is such a path below the directory of a mount.
func inMount(arg string) bool {
	mounts, err := findMounts(arg)
	if err != nil || fs.IsStale(mounts[0].Dir) {
		return false
	}
	_, err = os.Lstat(arg)
	return err == nil
}

func (e *env) pinPath(ctx context.Context, arg string, on bool) (err error) {
	images, err := imagesOf(ctx, arg)
	if err != nil {
		return err
	}
	cache := images[0].mount.Status.Cache
	s, err := e.openCache(cache.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	keys, labels := make(map[store.Key]int64), make(map[store.Key]string)
	for _, im := range images {
		raw := make([]byte, 128)
		n, err := unix.Getxattr(im.path, keyAttr, raw)
		if err != nil {
			return fmt.Errorf("the mount does not tell where %s is in its cache: mount it again: %w", im.path, err)
		}
		key := store.Key(raw[:n])
		keys[key] = max(im.size, 0)
		labels[key] = im.release + "/" + im.file
	}
	if on && cache.Limit > 0 {
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
	if pinned+asked <= limit {
		return nil
	}
	return fmt.Errorf("it may take %s, with what is pinned already %s, and the cache may hold %s: unpin others, or mount with a larger cache_size=",
		humanize.IBytes(uint64(asked)), humanize.IBytes(uint64(pinned+asked)), humanize.IBytes(uint64(limit)))
}
