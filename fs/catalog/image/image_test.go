package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"go.uber.org/goleak"

	"vmcastfs/cache"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/store/storetest"
	"vmcastfs/cache/testkit"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

const blk = cache.DefaultBlockSize

func TestMain(m *testing.M) { goleak.VerifyTestMain(testkit.Settled{M: m}) }

// memory is an archive in memory. Swap puts another one in its place.
type memory struct {
	archive.Content // what is not needed
	mu              sync.Mutex
	data            []byte
}

func (m *memory) swap(data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = data
}

func (m *memory) Fetch(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return io.NopCloser(bytes.NewReader(m.data[off : off+n])), nil
}

func (m *memory) Acquire() error { return nil }
func (m *memory) Release()       {}

// newSet is a package whose archive is content.
func newSet(t testing.TB, content archive.Content) *Set {
	t.Helper()
	st, err := store.Open(store.Options{Dir: t.TempDir(), SyncEvery: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := cache.New(cache.Options{Store: st, Quiet: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	run := func(fn func(context.Context)) bool { work.Go(func() { fn(ctx) }); return true }
	log := slog.New(slog.DiscardHandler)
	held := NewHeldBlocks(st, log, run)
	t.Cleanup(func() {
		cancel()
		work.Wait()
		held.Close()
		c.Close()
		st.Close()
	})
	return &Set{
		Env: Env{
			Store: st, Cache: c, Log: log, Memory: seekable.NewBudget(260 << 20), Go: run,
			Lists: &ListMemory{}, Held: held, Pool: &BlockPool{},
		},
		Release: "one", Content: content, Pinned: func() bool { return true },
		Profile:   func() []xvm.ProfileRead { return nil },
		SizeFound: func(string, int64) {},
		Corrupt:   func(string) {},
		Withdrawn: func(string) {},
	}
}

func noise(size int, seed byte) []byte {
	p := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	return p
}

// plainImage is an image that is stored as it is, at the start of the archive.
func plainImage(set *Set, name string, size int) *Image {
	return New(set, Member{Name: name, Key: archive.Key("test", name), Size: int64(size), Source: set.Content}, nil)
}

func TestStored(t *testing.T) {
	data := noise(5*blk+100, 1)
	im := plainImage(newSet(t, &memory{data: data}), "root.img", len(data))
	h, err := im.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	got := make([]byte, len(data)+1)
	if n, err := h.ReadAt(t.Context(), got, 0); n != len(data) || !errors.Is(err, io.EOF) || !bytes.Equal(got[:n], data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if st := im.Status(); st.State != "unverified" && st.State != "partial" || !st.Open || st.Verify != "whole" {
		t.Errorf("%+v", st)
	}
}

// TestListOnly: an image that only a block list vouches for is not opened without
// one.
func TestListOnly(t *testing.T) {
	set := newSet(t, &memory{data: noise(blk, 1)})
	im := New(set, Member{Name: "root.img", Key: archive.Key("test"), Size: blk, Source: set.Content, ListOnly: func() bool { return true }}, nil)
	if h, err := im.Open(t.Context()); !errors.Is(err, archive.ErrRefused) {
		t.Errorf("%v, %v", h, err)
	}
}

// TestHeadChanges: a server that shows something harmless first gets no name past
// the check.
func TestHeadChanges(t *testing.T) {
	evil := make([]byte, 20*blk)
	copy(evil, "QFI\xfb\x00\x00\x00\x03")
	binary.BigEndian.PutUint64(evil[24:], 1<<20)
	binary.BigEndian.PutUint32(evil[100:], 104)
	binary.BigEndian.PutUint64(evil[8:], 4096)
	binary.BigEndian.PutUint32(evil[16:], uint32(len("/etc/shadow")))
	copy(evil[4096:], "/etc/shadow")
	harmless := bytes.Clone(evil)
	harmless[0] ^= 1 // no magic
	content := &memory{data: harmless}
	set := newSet(t, content)
	im := plainImage(set, "evil.img", len(evil))
	h, err := im.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	content.swap(evil)
	key := im.member.Key
	if err := im.file.Close(); err != nil { // as an eviction: the block is fetched again
		t.Fatal(err)
	}
	for b := range int64(len(evil) / blk) {
		storetest.Lose(t, set.Store, key, b)
	}
	spec := cache.Spec{Size: int64(len(evil)), Source: content}
	im.common(&spec)
	if im.file, err = set.Cache.Open(spec); err != nil {
		t.Fatal(err)
	}
	h.(*handle).file = im.file
	p := make([]byte, 512)
	for _, off := range []int64{0, 100, 3900} { // of which the last two have the bytes of before
		if n, err := h.ReadAt(t.Context(), p, off); !errors.Is(err, errUnsteady) {
			t.Errorf("%d bytes of another head: %v", n, err)
		}
	}
	if _, ok := h.PassthroughFile(); ok {
		t.Error("offered to the kernel")
	}
}

// TestHeadInPieces: what is read of an examined head, however it is cut, is the bytes
// of the image.
func TestHeadInPieces(t *testing.T) {
	disk := make([]byte, 10000)
	copy(disk, "QFI\xfb\x00\x00\x00\x03") // more than 4 KiB are examined
	copy(disk[1000:], noise(9000, 3))
	set := newSet(t, &memory{data: disk})
	h, err := plainImage(set, "odd.img", len(disk)).Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, off := range []int64{0, 1, 512, 4095, 4096, 5000, 8191, 8192, 9999} {
		for _, n := range []int{1, 511, 4096, 4097, 8192, 10000, 12000} {
			p := make([]byte, n)
			got, err := h.ReadAt(t.Context(), p, off)
			if want := disk[off:][:min(n, len(disk)-int(off))]; err != nil && err != io.EOF || !bytes.Equal(p[:got], want) {
				t.Errorf("%d bytes at %d: %d, %v", n, off, got, err)
			}
		}
	}
}

// TestListMemory: lists that no image needs make room, those in use do not. What is
// counted is what is held. However much a list takes, one of another package that
// takes its share, and one of another origin, are used.
func TestListMemory(t *testing.T) {
	var m ListMemory
	list := func(origin string) *BlockSums { return NewBlockSums(ListSpec{Origin: origin}, &m, nil) }
	idle, busy, hostile := list("a"), list("a"), list("b")
	idle.list, busy.list, busy.users = &List{}, &List{}, 1
	for _, b := range []*BlockSums{idle, busy} {
		if err := m.take(b, maxListMemory/2); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.take(hostile, maxListMemory/2); err != nil || idle.list != nil || busy.list == nil {
		t.Error("an idle list makes room:", err)
	}
	if err := m.take(hostile, 1<<20); err == nil || !strings.Contains(err.Error(), "share") {
		t.Error("beyond its share:", err)
	}
	for i := range 2000 { // small ones, of any origin
		b := list([]string{"a", "b", "c"}[i%3])
		b.list, b.users = &List{}, 1
		if err := m.take(b, 5<<10); err != nil {
			t.Fatal(i, err)
		}
	}
	large := list("d") // more than the share of a package, and less than that of an origin
	if err := m.take(large, 4<<20); err != nil {
		t.Error("the first of its origin:", err)
	}
	total := m.total
	m.free(large)
	m.free(hostile)
	if err := m.take(hostile, 1<<20); err != nil || m.total != total-4<<20-maxListMemory/2+1<<20 {
		t.Error(err, m.total)
	}
}

// TestHoldWaits: a caller that gives up does not end the reading of the list for
// others.
func TestHoldWaits(t *testing.T) {
	set := newSet(t, nil)
	gate := make(chan struct{})
	loads := 0
	b := NewBlockSums(ListSpec{Label: "test", Load: func(context.Context, func(int64) error) (*List, error) {
		loads++
		<-gate
		return &List{Blocks: &xvm.BlockList{}}, nil
	}}, set.Lists, set.Go)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Hold(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	close(gate)
	if err := b.Hold(t.Context()); err != nil || loads != 1 {
		t.Error(err, loads)
	}
	b.LetGo()
	var none *BlockSums
	if err := none.Hold(ctx); err != nil {
		t.Error(err)
	}
	none.LetGo()
}

// BenchmarkGzipBlocks reads an image that is compressed block by block, in
// ranges of a region, from memory: what inflating costs beside the network.
func BenchmarkGzipBlocks(b *testing.B) {
	const size = 256 * blk
	var text, stored bytes.Buffer
	list := xvm.NewBlockListWriter(&text)
	if err := list.Begin("root.img", "root.img.gz", size, blk); err != nil {
		b.Fatal(err)
	}
	for i := range size / blk {
		var one bytes.Buffer
		z := gzip.NewWriter(&one)
		plain := append(bytes.Repeat(noise(1<<10, byte(i)), blk/2/(1<<10)), noise(blk/2, byte(i))...)
		z.Write(plain)
		z.Close()
		stored.Write(one.Bytes())
		if err := list.Block(sha256.Sum256(plain), int64(one.Len())); err != nil {
			b.Fatal(err)
		}
	}
	if err := list.Close(); err != nil {
		b.Fatal(err)
	}
	raw := text.Bytes()
	parsed, err := xvm.OutlineBlockList(&text, func(int64) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	read := func(_ context.Context, off int64, n int) ([]byte, error) { return raw[off:][:n], nil }
	src := blockSource{&memory{data: stored.Bytes()}, &listedBlocks{parsed.Image("root.img"), read, &ListMemory{}}, &BlockPool{}}
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		for off := int64(0); off < size; off += 8 * blk {
			body, err := src.Fetch(b.Context(), off, 8*blk, source.Demand)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, body); err != nil {
				b.Fatal(err)
			}
			body.Close()
		}
	}
}
