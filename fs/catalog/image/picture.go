package image

import (
	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
)

// Picture is what there is to show of an image: which of its pieces are here, and
// its last boot.
type Picture struct {
	Status Status `json:"status"`
	// Checked: each block that is here was compared with a sum of its own before
	// anybody saw it, or the whole has matched.
	Checked bool          `json:"checked"`
	Pieces  []cache.Piece `json:"pieces,omitempty"`
	Boot    *trace.Trace  `json:"boot,omitempty"`
}

// PictureOf describes an image in at most n pieces, from memory as far as it is
// open. Boot: with its last boot.
func PictureOf(im *Image, n int, boot bool) Picture {
	p := Picture{Status: im.Known()}
	r := im.recorder.Load()
	elsewhere := r.Elsewhere()
	im.mu.Lock()
	if im.file != nil {
		p.Pieces = im.file.Pieces(n, elsewhere)
	} else {
		p.Pieces = im.last.pieces.look(im.set.Store, im.member.Key, n)
	}
	im.mu.Unlock()
	switch mode := im.checks.mode(); {
	case p.Status.State == store.Verified.String(), mode == blockMode, mode == keptMode:
		p.Checked = true
	case mode == unknownMode: // a cache of its own is for what the list has checked
		p.Checked = im.set.Blocks != nil && im.member.Bare != "" && im.member.Bare != im.member.Key
	}
	if boot {
		if p.Boot = bootOf(im, r); p.Boot == nil {
			p.Boot = KeptBoot(im.set.Store, im.member.Key)
		}
	}
	return p
}

// look gives the pieces of an image that is not open, as its journal has them.
func (l *lastPieces) look(st *store.Store, key store.Key, n int) []cache.Piece {
	stamp, _ := st.Stamp(key)
	if l.list == nil || l.stamp != stamp || l.asked != n {
		l.list = PiecesOf(st, key, n, KeptBoot(st, key))
		l.stamp, l.asked = stamp, n
	}
	return l.list
}

// PiecesOf are those of a file of the cache that need not be open, of which boot is
// what is kept of its last boot, or nil.
func PiecesOf(st *store.Store, key store.Key, n int, boot *trace.Trace) []cache.Piece {
	var runs []store.Run
	if boot != nil {
		runs = cache.RunsOf(boot.Elsewhere)
	}
	list := []cache.Piece{}
	for _, c := range store.ColumnsOf(st, key, n, runs) {
		list = append(list, cache.Piece{Column: c})
	}
	return list
}
