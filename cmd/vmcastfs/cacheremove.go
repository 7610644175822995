package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"vmcastfs/cache/store"
)

// remove is `cache remove`.
func (e cacheKeeper) remove(ctx context.Context, args []string, open func() (*store.Store, error), force bool) error {
	return eachCachedOrPath(args, open, func(path string) error { return e.removePath(ctx, path, force) },
		func(s *store.Store, names []string) error {
			return eachCached(s, names, func(i store.Info) error { return e.removeCached(s, i, force) })
		})
}

// errNeeded is also the answer where a mount has not yet seen that nothing needs it any more.
var errNeeded = errors.New("a machine, or a pinned image, needs it: remove the machine (vmcastfs vm remove) or unpin the image first, or use --force")

// removeCached removes one file, which may be a pin of what is not cached.
func (e cacheKeeper) removeCached(s *store.Store, i store.Info, force bool) error {
	switch {
	case i.Kept && !force:
		return errors.New("it is pinned: unpin it first, or use --force")
	case i.Hold == store.EvictNever && !force:
		return errNeeded
	}
	err := s.Remove(i.Key)
	switch {
	case errors.Is(err, store.ErrInUse):
		return errors.New("it is in use: close what has it open first")
	case errors.Is(err, fs.ErrNotExist):
		err = s.Unkeep(i.Key)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "removed %s\n", cachedName(i))
	return nil
}

// removePath removes the images of a release, or one of them. A release that the feed
// has dropped leaves the tree with the last.
func (e cacheKeeper) removePath(ctx context.Context, arg string, force bool) (err error) {
	images, err := imagesOf(ctx, arg)
	if err != nil {
		return err
	}
	mount, release := images[0].mount, images[0].release
	s, err := e.openCache(mount.Status.Cache.Dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	withdrawn := func() (held []string, is bool) {
		for _, r := range mount.Status.Releases {
			if r.Name == release {
				return r.Held, r.Withdrawn != nil
			}
		}
		return nil, false
	}
	held, was := withdrawn()
	if i := slices.IndexFunc(held, func(why string) bool { return strings.HasPrefix(why, "machine ") }); i >= 0 && !force {
		return fmt.Errorf("it is the base of the %s: remove that first, or use --force", held[i])
	}
	const patience = 5 * time.Second
	begun := time.Now()
	for _, im := range images {
		key, err := keyOf(im)
		if err != nil {
			return err
		}
		i, err := s.Stat(key)
		if i.Key == "" {
			_, kept := s.Kept()[key]
			if i = (store.Info{Key: key, Kept: kept}); !kept && errors.Is(err, fs.ErrNotExist) {
				continue // nothing of it is here
			}
		}
		i.Label = im.release + "/" + im.file
		err = e.removeCached(s, i, force)
		for errors.Is(err, errNeeded) && time.Since(begun) < patience && ctx.Err() == nil {
			mount.look(ctx) // which has the mount look what is needed
			time.Sleep(prefetchPoll)
			if now, statErr := s.Stat(key); statErr == nil {
				i.Hold = now.Hold
			}
			err = e.removeCached(s, i, force)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", i.Label, err)
		}
	}
	for end := time.Now().Add(patience); was && time.Now().Before(end); time.Sleep(prefetchPoll) {
		if mount.look(ctx); mount.Status == nil {
			return nil
		}
		if held, was = withdrawn(); was && held != nil && !slices.Contains(held, "cached") {
			fmt.Fprintf(e.stderr, "vmcastfs: %s stays in the tree: %s\n", release, strings.Join(held, ", "))
			return nil
		}
	}
	return nil
}
