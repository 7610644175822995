package fs

import (
	"container/list"
	"sync"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
)

// knownRoom is how many files of releases the kernel is left to know. It forgets by
// itself only when it is short of memory, and each costs us half a KiB.
const knownRoom = 2048

// known are the releases whose files the kernel was told of. Of those that were not
// looked at for longest, the kernel is told to forget the files. It forgets the directories
// as well that nobody is in, from Linux 6.18 on. An older one cannot tell, and keeps them.
//
// mu guards what follows it; it is a leaf.
type known struct {
	mu    sync.Mutex
	room  int       // for so many files
	order list.List // of *releaseNode, the last used first
	at    map[*releaseNode]*list.Element
	files int
	idle  []*releaseNode // to be forgotten
}

// looked notes that the kernel asked for a file of the release, and whether it knew that
// file. It reports whether there is something to forget.
func (k *known) looked(r *releaseNode, fresh bool) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.at[r]
	if e == nil {
		if k.at == nil {
			k.at = make(map[*releaseNode]*list.Element)
		}
		e = k.order.PushFront(r)
		k.at[r] = e
	}
	k.order.MoveToFront(e)
	if fresh {
		r.looked++
		k.files++
	}
	for k.files > k.room && k.order.Len() > 1 {
		last := k.order.Remove(k.order.Back()).(*releaseNode)
		delete(k.at, last)
		k.files -= last.looked
		last.looked = 0
		k.idle = append(k.idle, last)
	}
	return len(k.idle) > 0
}

func (k *known) takeIdle() []*releaseNode {
	k.mu.Lock()
	defer k.mu.Unlock()
	idle := k.idle
	k.idle = nil
	return idle
}

// forgetter has the kernel forget files until stop is closed. It has a goroutine of its
// own: it waits for lookups in the same directory.
func (v *vfs) forgetter(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-v.forgettable:
		}
		for _, r := range v.known.takeIdle() {
			v.check("directories of a release", r.NotifyPrune(v.forget(&r.Inode)))
		}
	}
}

// forget has the kernel forget the files below dir that are not open. It returns the
// directories, from the deepest up.
func (v *vfs) forget(dir *fusefs.Inode) (dirs []*fusefs.Inode) {
	for name, child := range dir.Children() {
		switch n := child.Operations().(type) {
		case *dirNode:
			dirs = append(dirs, v.forget(child)...)
		case *fileNode:
			if n.io.idle() {
				v.check(name, dir.NotifyEntry(name))
			}
		}
	}
	return append(dirs, dir)
}
