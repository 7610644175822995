package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/bases"
)

// mountLimit is how long a command waits for a mount: to index a release, and to
// read the first bytes of its images.
const mountLimit = 90 * time.Second

// errNoAnswer is the cause where a mount took longer.
var errNoAnswer = fmt.Errorf("no answer within %s: `vmcastfs status` tells of the mount and its server", mountLimit)

// onMount runs fn, which asks a mount, and does not wait for it without end.
func onMount[T any](ctx context.Context, what string, fn func(context.Context) (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeoutCause(ctx, mountLimit, errNoAnswer)
	defer cancel()
	got := make(chan answer, 1)
	go func() {
		value, err := fn(ctx)
		got <- answer{value, err}
	}()
	select {
	case a := <-got:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
}

// base is a release in a mount.
type base struct {
	mount   mountStatus
	release catalog.ReleaseStatus
	dir     string // of the release
}

// findBase finds the release that DIR/RELEASE means, and has it indexed.
func findBase(ctx context.Context, arg string) (*base, error) {
	m, err := liveMount(ctx, arg)
	if err != nil {
		return nil, err
	}
	name, err := onMount(ctx, arg, func(ctx context.Context) (string, error) {
		name, file, err := m.find(ctx, arg)
		if err == nil && file != "" {
			err = usagef("%s is no release of a mount: name DIR/RELEASE", arg)
		}
		return name, err
	})
	if err == nil {
		err = m.mustLook(ctx)
	}
	if err != nil {
		return nil, withCode(exitFailed, err)
	}
	i := slices.IndexFunc(m.Status.Releases, func(r catalog.ReleaseStatus) bool { return r.Name == name })
	if i < 0 {
		return nil, withCode(exitFailed, fmt.Errorf("%s has no release %s", m.Dir, name))
	}
	b := &base{mount: m, release: m.Status.Releases[i], dir: filepath.Join(m.Dir, name)}
	return b, b.served()
}

// keeps refuses a machines' directory other than that where the mount looks for what
// it has to keep.
func (b *base) keeps(vms string) error {
	kept := b.mount.Status.VMs
	if kept == vms {
		return nil
	}
	is, err := os.Stat(vms)
	if want, wantErr := os.Stat(kept); err == nil && wantErr == nil && os.SameFile(is, want) {
		return nil
	}
	return withCode(exitFailed, fmt.Errorf("the mount on %s keeps what the machines in %q lie on, and not those in %s: give --vms %s, or mount with -o vms=%s",
		b.mount.Dir, kept, vms, kept, vms))
}

// served says why nothing of the release is served.
func (b *base) served() error {
	if r := b.release; r.Error != "" && r.State != "indexed" {
		return withCode(exitFailed, fmt.Errorf("%s is %s: %s", b.dir, r.State, show.Text(r.Error)))
	}
	return nil
}

// image describes an image as a base.
func (b *base) image(path, format string) (bases.Image, error) {
	file, err := filepath.Rel(b.dir, path)
	if err != nil {
		return bases.Image{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return bases.Image{}, err
	}
	im := bases.Image{File: file, Format: format, Size: info.Size(), Digest: attr(path, "digest")}
	if im.Digest == "" {
		return im, fmt.Errorf("%s: the mount does not tell what identifies its content: mount it again with this version", path)
	}
	for _, part := range append(partNames(b.dir, file), file) {
		if key := attr(filepath.Join(b.dir, part), "key"); key != "" {
			im.Keys = append(im.Keys, key)
		}
	}
	return im, nil
}

// partNames are the images that a disk is made of.
func partNames(dir, file string) (names []string) {
	if j := joinedDisk(dir); j.Name == file {
		for _, p := range j.Parts {
			names = append(names, p.File)
		}
	}
	return names
}

// vouched says what a base was compared with when it was named.
func (b *base) vouched(im bases.Image) string {
	path := filepath.Join(b.dir, im.File)
	kind, _, _ := strings.Cut(im.Digest, ":")
	text := "identified by "
	switch {
	case kind == "version":
		text += "what the server says of the archive: there is no sum"
	case attr(path, "signer") != "":
		text += "the manifest that " + show.Text(attr(path, "signer")) + " signed"
	case kind == "sha256" && attr(path, "sha256") != "" || kind != "parts":
		text += "the sum that came with it, which nobody signed"
	default:
		text += "the sums of its parts, which nobody signed"
	}
	switch state := attr(path, "state"); state {
	case "verified":
		return text + "; all of it is here and matches"
	case "":
		return text
	default:
		return text + "; its content is " + state + ", as `vmcastfs status` explains"
	}
}

// checkBase refuses a machine whose base is not what it was, and returns the base.
// It has the mount ask whether the archive was replaced.
func checkBase(ctx context.Context, r *bases.Record) (*base, error) {
	mounts, err := findMounts("")
	if err != nil {
		return nil, err
	}
	mounts = slices.DeleteFunc(mounts, func(m mountStatus) bool { return m.Dir != r.Mount })
	survey(ctx, mounts)
	if len(mounts) > 0 && mounts[0].Status != nil {
		_, err := onMount(ctx, r.Mount, func(context.Context) (any, error) {
			for _, im := range r.Images {
				if f, err := os.Open(filepath.Join(r.Mount, r.Release, im.File)); err == nil {
					f.Close()
				} // else lookBase finds out why
			}
			return nil, nil
		})
		if err != nil {
			return nil, withCode(exitFailed, err)
		}
		survey(ctx, mounts)
	}
	b, err := lookBase(ctx, r, mounts)
	if err != nil {
		return nil, withCode(exitFailed, fmt.Errorf("%s: %w", r.Name, err))
	}
	return b, nil
}

// lookBase says why the base of a machine is not what it was, by mounts whose status
// has been read.
func lookBase(ctx context.Context, r *bases.Record, mounts []mountStatus) (*base, error) {
	i := slices.IndexFunc(mounts, func(m mountStatus) bool { return m.Dir == r.Mount })
	if i < 0 {
		return nil, fmt.Errorf("its base is not there: mount %s on %s", show.URL(r.Feed), r.Mount)
	}
	b := &base{mount: mounts[i], dir: filepath.Join(r.Mount, r.Release)}
	if err := b.mount.answered(); err != nil {
		return nil, err
	}
	if feed := b.mount.Status.Feed.URL; feed != r.Feed {
		return nil, fmt.Errorf("its base is not there: on %s is the feed %s, and the machine was made of %s", r.Mount, show.URL(feed), show.URL(r.Feed))
	}
	i = slices.IndexFunc(b.mount.Status.Releases, func(x catalog.ReleaseStatus) bool { return x.Name == r.Release })
	if i < 0 || b.mount.Status.Releases[i].ID != r.GUID {
		return nil, fmt.Errorf("its base is gone: %s is not the release %s any more", b.dir, show.Text(r.GUID))
	}
	b.release = b.mount.Status.Releases[i]
	if err := b.served(); err != nil {
		return nil, err
	}
	for _, im := range r.Images {
		path := filepath.Join(b.dir, im.File)
		is, err := onMount(ctx, path, func(context.Context) (bases.Image, error) { return b.image(path, im.Format) })
		if err != nil {
			return nil, fmt.Errorf("its base: %w", err)
		}
		if is.Digest != im.Digest || is.Size != im.Size {
			return nil, fmt.Errorf("its base %s is not what it was: it was %s (%d bytes) when the machine was made, and is %s (%d bytes). "+
				"What the machine wrote fits the old one alone, so nothing is started. Have the publisher bring the old one back, "+
				"or give up what the machine wrote: vmcastfs vm remove %s, and make it anew",
				path, im.Digest, im.Size, is.Digest, is.Size, r.Name)
		}
	}
	return b, nil
}
