package image

import (
	"fmt"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
)

// Status is the state of a file. Size is -1 while it is not known.
type Status struct {
	Name  string `json:"name"`
	Size  int64  `json:"size"`
	State string `json:"state"` // partial, verified, unverified, corrupt
	// Refused is why the file alone is not served: where signatures are required,
	// or because it is compressed in a way that is not supported.
	Refused string `json:"refused,omitempty"`
	Note    string `json:"note,omitempty"`
	// Verify is how what is read has been checked: "block" against a block
	// list, "kept" against sums kept from an earlier check of the whole, both
	// before it is served; "whole" behind the read, once all is here; "strict"
	// before it, for the same price. "" until it is opened.
	Verify string `json:"verify,omitempty"`
	// VerifyNote is why, where it is not, or will not be, what the mount was
	// asked for, and what is amiss with it.
	VerifyNote string `json:"verify_note,omitempty"`
	// MirrorNote is why mirrors are not asked for it, where there are any.
	MirrorNote  string     `json:"mirror_note,omitempty"`
	CachedBytes int64      `json:"cached_bytes"`
	Percent     float64    `json:"percent"`
	Checked     int64      `json:"checked_bytes,omitempty"`
	InFlight    int        `json:"in_flight,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
	LastErrorAt *time.Time `json:"last_error_at,omitempty"`
	Open        bool       `json:"open"`
	Pinned      bool       `json:"pinned,omitempty"` // it is completed, and never evicted
	Image       bool       `json:"image"`
	NoDisk      bool       `json:"no_disk,omitempty"` // it is a kernel, a ramdisk or a document
	// Parts are the images that a disk made of partition images shows. It is no
	// image itself, and what it says is made of what they say.
	Parts []string `json:"parts,omitempty"`
}

// Status describes the image as it is now, without touching the network.
func (im *Image) Status() Status { return im.describe(cacheStatus) }

// Known is Status from memory: an image that is not open is as it was when Status
// was asked last. Only the first look at an image goes to the disk.
func (im *Image) Known() Status { return im.describe(knownStatus) }

// describe makes a Status of what the cache says. What is inflated from a corrupt
// file is corrupt.
func (im *Image) describe(said func(*Image) cache.Status) Status {
	is := said(im)
	if im.base != nil && im.checks.mode() != blockMode && is.State != store.Corrupt.String() {
		if base := said(im.base); base.State == store.Corrupt.String() {
			is.State = base.State
			is.Note = fmt.Sprintf("inflated from %s, which is corrupt: %s", im.base.member.Name, base.Note)
		}
	}
	im.mu.Lock()
	open := im.opens > 0
	im.mu.Unlock()
	refused := ""
	if why := im.undecodable.Load(); why != nil {
		refused = "not supported: " + (*why).Error()
	}
	return Status{
		Refused: refused,
		Name:    im.member.Name, Size: im.Size(), Image: true, Open: open,
		State: is.State, Note: is.Note, Verify: im.checks.verify(im.set.Strict), VerifyNote: im.checks.verifyNote(im.set, im.summed()),
		MirrorNote:  mirrorNote(im),
		CachedBytes: is.CachedBytes, Percent: is.Percent, Checked: is.Checked, InFlight: is.InFlight,
		LastError: is.LastError, LastErrorAt: is.LastErrorAt,
	}
}

// mirrorNote is Status.MirrorNote.
func mirrorNote(im *Image) string {
	mode := im.checks.mode()
	if im.set.Mirrored == nil || mode == blockMode || mode == keptMode || mode == unknownMode && im.set.Blocks != nil {
		return ""
	}
	return "not through a mirror: no block sums prove its bytes; " + im.set.Index + " makes them, for sidecar="
}

// knownStatus is what the cache said last of the image.
func knownStatus(im *Image) cache.Status {
	im.mu.Lock()
	defer im.mu.Unlock()
	switch {
	case im.file != nil:
		return im.file.Status()
	case im.last.known():
		return im.last.Status
	}
	return im.last.look(im.set.Store, im.member.Key, im.member.Size)
}

// cacheStatus is what the cache says of the image.
func cacheStatus(im *Image) cache.Status {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.file != nil {
		return im.file.Status()
	}
	return im.last.look(im.set.Store, im.member.Key, im.member.Size)
}

// Summed tells whether sums tell a replaced archive of the same size: of blocks,
// or of the whole image.
func (im *Image) Summed() bool { return im.set.Blocks != nil || im.summed() }

// Attr is an extended attribute by its full name: the format, the key in the
// cache, or the recording of a boot. The recording is this host's, as far as it
// has come, in the text form of package xvm.
func (im *Image) Attr(name string) string {
	switch name {
	case "user.vmcast.format":
		return im.head.format(im.set.Store, im.member.Key, im.Size())
	case "user.vmcast.key":
		return string(im.member.Key)
	case "user.vmcast.profile":
		im.mu.Lock() // a recording that has just ended is being written
		defer im.mu.Unlock()
		return string(profileText(im))
	}
	return ""
}
