package image

import (
	"vmcastfs/cache"
	"vmcastfs/cache/store"
)

// lastStatus is how an image that is not open was when it was last looked at.
type lastStatus struct {
	cache.Status             // of no state: nobody has looked
	stamp        store.Stamp // what Status is of
	counted      bool        // the data was, as of countStamp
	countStamp   store.Stamp

	pieces lastPieces
}

// lastPieces are the pieces of such an image.
type lastPieces struct {
	list  []cache.Piece // nil: nobody has asked
	stamp store.Stamp   // what list is of
	asked int           // for how many
}

func (l *lastStatus) known() bool { return l.State != "" }

// set keeps the status of an image from just before it was closed. What closing has
// changed only the store knows: blocks on their way have come, or judged: it gave a verdict.
func (l *lastStatus) set(st *store.Store, key store.Key, now cache.Status, judged bool) {
	l.Status = now
	if judged || now.InFlight > 0 {
		l.stamp = store.Stamp{}
		l.look(st, key, now.Size)
		return
	}
	l.stamp, _ = st.Stamp(key)
}

// look finds out how the image is now, by its journal. It may not have been open
// in this mount yet, and is as earlier ones left it. Or blocks have been evicted
// since, or another process has fetched some.
func (l *lastStatus) look(st *store.Store, key store.Key, size int64) cache.Status {
	stamp, _ := st.Stamp(key)
	if l.known() && stamp == l.stamp {
		return l.Status
	}
	now := cache.Status{State: store.Partial.String(), Size: size, LastError: l.LastError, LastErrorAt: l.LastErrorAt}
	if info, err := st.Stat(key); err == nil {
		now.State, now.Note, now.CachedBytes = info.State.String(), info.Note, info.Bytes
		if info.Size > 0 {
			now.Size = info.Size
			now.Percent = 100 * float64(info.Bytes) / float64(info.Size)
		}
	}
	l.Status, l.stamp = now, stamp
	return now
}

// recount counts the data of an image of this size that is not open; not changed: its
// journal is as it was the last time.
func (l *lastStatus) recount(st *store.Store, key store.Key, size int64, data []cache.Extent) (n int64, changed bool) {
	stamp, _ := st.Stamp(key)
	if size < 0 || l.counted && stamp == l.countStamp {
		return 0, false
	}
	l.counted, l.countStamp = true, stamp
	return cache.DataBytesOf(st, key, size, data), true
}
