package image

import (
	"cmp"
	"sync/atomic"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// mode is how the blocks of an image are checked before they are served.
type mode int32

const (
	unknownMode mode = iota // it has not been opened yet
	lazyMode                // not one by one
	blockMode               // against the block list
	keptMode                // against sums kept from an earlier check of the whole
	strictMode              // the whole first, though Env.Strict does not ask for it
)

// noValidator is why an image is read like that.
const noValidator = "server gives no validator"

// checks are what the blocks of an image are checked against while it is open,
// and the images that it shares them with.
//
// All but mode is guarded by the image's mu.
type checks struct {
	last atomic.Int32 // mode

	room         int64       // bytes of HeldBlocks that its kept sums take
	sharing      bool        // it takes blocks from other images
	unlistedCopy *store.File // the same image as cached without a block list; may be nil
}

func (c *checks) mode() mode { return mode(c.last.Load()) }

// begin completes the spec of an image whose blocks are known: from a list, or
// from an earlier check of the whole. Else it has them learned. Where nothing but
// sums of the whole tells versions of the archive apart, those are compared
// before the first byte is served. The sums of the whole are not needed when
// every block has one that stems from them. summed: there are such.
func (c *checks) begin(set *Set, m Member, spec *cache.Spec, listed *listedBlocks, summed bool) {
	c.set(lazyMode)
	if listed != nil {
		spec.Blocks, spec.BlockSize = listed, listed.BlockSize
		c.set(blockMode)
		c.share(set, m, spec)
		set.Held.keepListed(m.Key, listed)
		return
	}
	if t := c.kept(set, m, spec.Size); t != nil {
		spec.Blocks, spec.Sums, spec.Judge = cache.TableSums(t), nil, nil
		c.set(keptMode)
		c.share(set, m, spec)
		return
	}
	if (m.WholeFirst != nil && m.WholeFirst() || !set.Pinned()) && summed {
		spec.Policy = cache.Strict
		c.set(strictMode)
	}
	spec.Learned = func(t *sums.Table) {
		c.set(keptMode)
		set.Held.keep(m.Key, t)
	}
}

func (c *checks) set(m mode) { c.last.Store(int32(m)) }

// kept are the sums of an earlier check of the whole, nil if there are none, or
// no room for them.
func (c *checks) kept(set *Set, m Member, size int64) *sums.Table {
	if size < 0 {
		return nil
	}
	t := set.Held.keptSums(m.Key)
	if t == nil || t.Size() != size || t.BlockSize() != cache.DefaultBlockSize || !set.Held.takeRoom(t.Bytes()) {
		return nil
	}
	c.room = t.Bytes()
	return t
}

// share lets the image take blocks from others.
func (c *checks) share(set *Set, m Member, spec *cache.Spec) {
	set.Held.enter()
	c.sharing = true
	blockSize := cmp.Or(spec.BlockSize, cache.DefaultBlockSize)
	if m.Bare != "" && m.Bare != m.Key {
		if _, err := set.Store.Stamp(m.Bare); err == nil {
			if file, err := set.Store.File(m.Bare, spec.Size, blockSize); err == nil {
				c.unlistedCopy = file
			}
		}
	}
	own, held := c.unlistedCopy, set.Held
	spec.Copies = func(b int64, sum [32]byte) (*store.File, int64, bool) {
		if own != nil && own.Has(b) {
			return own, b, true
		}
		return held.find(sum, blockSize, m.Key, b)
	}
}

// end undoes begin. The mode stays, for status.
func (c *checks) end(set *Set) {
	if c.unlistedCopy != nil {
		c.unlistedCopy.Close()
		c.unlistedCopy = nil
	}
	set.Held.giveRoom(c.room)
	c.room = 0
	if c.sharing {
		c.sharing = false
		set.Held.leave()
	}
}

// verify is Status.Verify. Strict is Env.Strict.
func (c *checks) verify(strict bool) string {
	switch mode := c.mode(); {
	case mode == blockMode:
		return "block"
	case strict, mode == strictMode:
		return "strict"
	case mode == keptMode:
		return "kept"
	case mode == lazyMode:
		return "whole"
	}
	return ""
}

// verifyNote is Status.VerifyNote. Summed: there are sums of the whole.
func (c *checks) verifyNote(set *Set, summed bool) string {
	mode := c.mode()
	likely := mode == unknownMode && set.Blocks == nil // how it will be opened
	switch {
	case set.Pinned():
		return ""
	case mode == strictMode, likely && summed:
		return noValidator
	case mode == lazyMode, likely:
		return noValidator + ", and no sum tells its versions apart: what is read may be of several"
	}
	return ""
}
