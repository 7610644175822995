package image

import (
	"context"
	"encoding/binary"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/xvm/sums"
)

// kindSums are the persisted block sums of images, by their key in the cache.
// They are learned from a check of the whole, or copied from a block list so that
// other images find what they have in common.
const kindSums = "sums"

const (
	// maxHeldFiles bounds the images whose blocks are looked through.
	maxHeldFiles = 512
	// maxHeldBlocks bounds their blocks: 8 bytes each.
	maxHeldBlocks = 4 << 20
	// maxKeptSums is how many documents of images that are not in the cache any
	// more are left alone.
	maxKeptSums = 4096
)

// HeldBlocks finds blocks by their SHA-256 in all images of the cache whose
// block sums are known. It is filled when the first block is looked for, and
// emptied when no image has been open for a while that may look for any.
//
// mu guards what follows it, and is held while the documents are read. It comes
// before the locks of package store.
type HeldBlocks struct {
	store *store.Store
	log   *slog.Logger
	run   func(func(ctx context.Context)) bool // in the background
	kept  atomic.Int64                         // bytes of kept sums in memory, of open images

	copying sync.Mutex // held while a list is copied, which takes memory

	mu     sync.RWMutex
	users  int
	alone  bool // nobody has used it since rest looked
	filled bool
	files  []*heldFile // the most recently used first
	blocks int
	timer  *time.Timer // runs while filled, to close what is idle
}

// NewHeldBlocks makes an empty one. Run is Env.Go.
func NewHeldBlocks(st *store.Store, log *slog.Logger, run func(func(ctx context.Context)) bool) *HeldBlocks {
	return &HeldBlocks{store: st, log: log, run: run}
}

// heldFile is one image of the cache.
type heldFile struct {
	key       store.Key
	size      int64
	blockSize int
	// places holds for each block the first half of its sum's first 8 bytes and
	// its number, sorted. That two sums begin alike costs a look, no more.
	places []uint64

	// mu guards what follows. The file is open from a find in it until none has
	// come for heldIdle. An open file cannot be removed.
	mu   sync.Mutex
	file *store.File
	used bool // since rest looked
	gone bool
}

// heldIdle is how long a file stays open that nothing is found in.
const heldIdle = 10 * time.Second

func newHeldFile(key store.Key, t *sums.Table) *heldFile {
	h := &heldFile{key: key, size: t.Size(), blockSize: t.BlockSize()}
	for b := range min(t.Blocks(), 1<<32) {
		if sum, zero, ok := t.Sum(b); ok && !zero {
			h.places = append(h.places, placeOf(sum, b))
		}
	}
	h.places = slices.Clip(h.places)
	slices.Sort(h.places)
	return h
}

func placeOf(sum [32]byte, b int64) uint64 {
	return uint64(binary.BigEndian.Uint32(sum[:]))<<32 | uint64(b)
}

// enter is called before an image that may look for blocks is opened, leave
// after it is closed.
func (h *HeldBlocks) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
	h.alone = false
}

func (h *HeldBlocks) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users-- // filling it anew takes long: see rest
}

// Close closes all files for good, also if images are still open.
func (h *HeldBlocks) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clear()
	h.filled = true
}

// rest closes the files that nothing has been found in for a while, and forgets all
// once there has been no user for as long.
func (h *HeldBlocks) rest() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.timer == nil {
		return
	}
	if h.users == 0 && h.alone {
		h.clear()
		return
	}
	h.alone = h.users == 0
	for _, f := range h.files {
		f.rest()
	}
	h.timer.Reset(heldIdle)
}

func (f *heldFile) rest() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil && !f.used {
		f.file.Close()
		f.file = nil
	}
	f.used = false
}

// clear forgets all files; mu is held.
func (h *HeldBlocks) clear() {
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
	for _, f := range h.files {
		f.close()
	}
	h.files, h.blocks, h.filled = nil, 0, false
}

// find looks for a present block of this sum and block size in another place
// than block b of the file key.
func (h *HeldBlocks) find(sum [32]byte, blockSize int, key store.Key, b int64) (*store.File, int64, bool) {
	h.mu.RLock()
	if !h.filled {
		h.mu.RUnlock()
		h.fill()
		h.mu.RLock()
	}
	defer h.mu.RUnlock()
	first := placeOf(sum, 0)
	for _, f := range h.files {
		if f.blockSize != blockSize {
			continue
		}
		i, _ := slices.BinarySearch(f.places, first)
		for ; i < len(f.places) && f.places[i]>>32 == first>>32; i++ {
			at := int64(f.places[i] & (1<<32 - 1))
			if f.key == key && at == b {
				continue
			}
			if file := f.open(h.store); file != nil && file.Has(at) {
				return file, at, true
			}
		}
	}
	return nil, 0, false
}

// fill reads the sums of all images in the cache.
func (h *HeldBlocks) fill() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.filled || h.users == 0 {
		return
	}
	h.filled = true
	h.timer = time.AfterFunc(heldIdle, h.rest)
	st, log := h.store, h.log
	names, err := st.DocNames(kindSums)
	if err != nil {
		log.Warn("block sums cannot be listed; nothing is copied from other images", "err", err)
		return
	}
	var here []store.Info
	for _, name := range names {
		info, err := st.Stat(store.Key(name))
		switch {
		case err == nil && info.Bytes > 0:
			here = append(here, info)
		case err != nil && len(names) > maxKeptSums:
			_ = st.DeleteDoc(kindSums, name) // tried again another time
		}
	}
	slices.SortFunc(here, func(a, b store.Info) int { return b.Used.Compare(a.Used) })
	for _, info := range here {
		if t := h.keptSums(info.Key); t != nil {
			h.add(newHeldFile(info.Key, t))
		}
	}
}

// add puts a file in front; mu is held.
func (h *HeldBlocks) add(f *heldFile) {
	known := slices.ContainsFunc(h.files, func(g *heldFile) bool { return g.key == f.key })
	if known || len(h.files) >= maxHeldFiles || h.blocks+len(f.places) > maxHeldBlocks {
		return
	}
	h.blocks += len(f.places)
	h.files = append(h.files, f)
}

// learn adds an image that has just come to be known.
func (h *HeldBlocks) learn(key store.Key, t *sums.Table) {
	h.mu.RLock()
	filled := h.filled
	h.mu.RUnlock()
	if !filled {
		return
	}
	f := newHeldFile(key, t)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.filled {
		h.add(f)
	}
}

func (f *heldFile) open(st *store.Store) *store.File {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil && !f.gone {
		file, err := st.File(f.key, f.size, f.blockSize)
		if err != nil {
			f.gone = true
			return nil
		}
		f.file = file
	}
	f.used = true
	return f.file
}

func (f *heldFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file != nil {
		f.file.Close()
		f.file = nil
	}
	f.gone = true
}

// keep persists the block sums of an image. It is checked block by block the next
// time, and others find what they have in common with it.
func (h *HeldBlocks) keep(key store.Key, t *sums.Table) {
	h.run(func(context.Context) { h.persist(key, t) })
}

func (h *HeldBlocks) persist(key store.Key, t *sums.Table) {
	if raw := t.Encode(); len(raw) <= store.MaxDoc {
		if err := h.store.PutDoc(kindSums, string(key), raw); err != nil {
			h.log.Warn("block sums are not kept", "err", err)
		}
	}
	h.learn(key, t)
}

// keptSums are the persisted block sums of an image, or nil.
func (h *HeldBlocks) keptSums(key store.Key) *sums.Table {
	raw, err := h.store.GetDoc(kindSums, string(key))
	if err != nil {
		return nil
	}
	t, err := sums.Decode(raw)
	if err != nil {
		h.log.Warn("kept block sums are not usable", "err", err)
		return nil
	}
	return t
}

// maxKept bounds the kept sums in memory, of all open images together, in bytes.
const maxKept = 64 << 20

// takeRoom takes room for kept sums until giveRoom; without any an image is read
// as if there were none.
func (h *HeldBlocks) takeRoom(bytes int64) bool {
	if h.kept.Add(bytes) > maxKept {
		h.kept.Add(-bytes)
		return false
	}
	return true
}

func (h *HeldBlocks) giveRoom(bytes int64) { h.kept.Add(-bytes) }

// keepListed keeps what a list says of an image, if that is not kept yet. Other
// images then find what they have in common with it. One list at a time is copied.
func (h *HeldBlocks) keepListed(key store.Key, listed *listedBlocks) {
	if h.store.HasDoc(kindSums, string(key)) || 32*int64(listed.Outline().Sums()) > store.MaxDoc {
		return
	}
	h.run(func(ctx context.Context) {
		h.copying.Lock()
		defer h.copying.Unlock()
		t := sums.NewTable(listed.Size, listed.BlockSize)
		for b := range listed.Blocks() {
			zero, _ := listed.Known(b)
			var sum [32]byte
			if !zero {
				var err error
				if sum, err = listed.Sum(ctx, b); err != nil {
					return // another time
				}
			}
			t.Append(sum, zero)
		}
		h.persist(key, t)
	})
}
