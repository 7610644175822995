package fs

import (
	"crypto/sha256"
	"syscall"

	"vmcastfs/fs/catalog"
)

// poke wakes the notifier. It never blocks.
func (v *vfs) poke() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// distrust has the kernel drop its pages of a file that turned out corrupt.
func (v *vfs) distrust(f *fileNode) {
	v.mu.Lock()
	v.distrusted[f] = struct{}{}
	v.mu.Unlock()
	v.poke()
}

func (v *vfs) takeDistrusted() map[*fileNode]struct{} {
	v.mu.Lock()
	defer v.mu.Unlock()
	files := v.distrusted
	v.distrusted = make(map[*fileNode]struct{})
	return files
}

// A view is what the root shows, as far as the kernel may have cached it.
type view struct {
	feed     [sha256.Size]byte
	feedTime int64
	latest   string
	releases map[string]uint64 // generations by name
}

func (v *vfs) view(snap *catalog.Snapshot) view {
	now := view{
		feed:     sha256.Sum256(snap.FeedXML()),
		feedTime: snap.FeedTime().UnixNano(),
		latest:   newest(snap),
		releases: make(map[string]uint64),
	}
	for _, r := range v.releasesOf(snap) {
		now.releases[r.Name()] = r.Generation()
	}
	return now
}

// changes lists the names that the root shows differently in b than in a.
func changes(a, b view) []string {
	var names []string
	if a.feed != b.feed || a.feedTime != b.feedTime {
		names = append(names, feedName)
	}
	if a.latest != b.latest || a.releases[a.latest] != b.releases[b.latest] {
		names = append(names, latestName)
	}
	for name, generation := range a.releases {
		if now, ok := b.releases[name]; !ok || now != generation {
			names = append(names, name)
		}
	}
	for name := range b.releases {
		if _, ok := a.releases[name]; !ok {
			names = append(names, name)
		}
	}
	return names
}

// notifier tells the kernel what to forget, from what was shown on. It runs until stop is
// closed; once the connection is gone, notifications fail at once.
func (v *vfs) notifier(stop <-chan struct{}, shown *catalog.Snapshot) {
	for {
		select {
		case <-stop:
			return
		case <-v.wake:
		}
		for f := range v.takeDistrusted() {
			v.check("content of "+f.name, f.NotifyContent(0, 0))
		}
		now := v.tree.Snapshot()
		if now == shown {
			continue // it is files that changed
		}
		names := changes(v.view(shown), v.view(now))
		for _, name := range names {
			v.check(name, v.root.NotifyEntry(name))
		}
		if len(names) > 0 {
			v.check("root", v.root.NotifyContent(-1, 0)) // its times and link count
		}
		shown = now
	}
}

// check logs a failed notification. ENOENT means that the kernel did not know
// the thing anyway, and ENOSYS that it cannot be told; the others mean that the mount is
// going away.
func (v *vfs) check(what string, errno syscall.Errno) {
	switch errno {
	case 0, syscall.ENOENT, syscall.ENOSYS, syscall.EBADF, syscall.ENODEV, syscall.ENOTCONN:
	default:
		v.log.Warn("invalidate the kernel's cache", "of", what, "err", errno)
	}
}
