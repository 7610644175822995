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

// Picture describes the image in at most n pieces, from memory as far as it is
// open. Boot: with its last boot.
func (im *Image) Picture(n int, boot bool) Picture {
	p := Picture{Status: im.Known()}
	im.mu.Lock()
	if im.file != nil {
		p.Pieces = im.file.Pieces(n)
	} else {
		p.Pieces = im.lastPieces(n)
	}
	im.mu.Unlock()
	switch mode := im.checks.mode(); {
	case p.Status.State == store.Verified.String(), mode == blockMode, mode == keptMode:
		p.Checked = true
	case mode == unknownMode: // a cache of its own is for what the list has checked
		p.Checked = im.set.Blocks != nil && im.member.Bare != "" && im.member.Bare != im.member.Key
	}
	if boot {
		r := im.recorder.Load()
		if p.Boot = im.bootOf(r); p.Boot == nil {
			p.Boot = KeptBoot(im.set.Store, im.member.Key)
		}
	}
	return p
}

// lastPieces are the pieces of an image that is not open. im.mu is held.
func (im *Image) lastPieces(n int) []cache.Piece {
	stamp, _ := im.set.Store.Stamp(im.member.Key)
	if im.last.pieces == nil || im.last.piecesOf != stamp || im.last.asked != n {
		im.last.pieces = []cache.Piece{}
		for _, c := range im.set.Store.Columns(im.member.Key, n) {
			im.last.pieces = append(im.last.pieces, cache.Piece{Column: c})
		}
		im.last.piecesOf, im.last.asked = stamp, n
	}
	return im.last.pieces
}
