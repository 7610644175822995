package archive

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/xvm/pack"
)

func noise(n int) []byte {
	p := make([]byte, n)
	r := rand.NewChaCha8([32]byte{4})
	r.Read(p)
	return p
}

// TestBlockListEnd: the end of the block list is found in the first bytes of a
// package that we made.
func TestBlockListEnd(t *testing.T) {
	disk := noise(200 * 64 << 10)
	var list bytes.Buffer
	if _, err := pack.Pack(t.Context(), &list, pack.Options{
		Description: []byte("<xvm><name>test</name></xvm>"), Time: time.Unix(1e9, 0), TempDir: t.TempDir(), BlockSize: pack.MinBlockSize,
		Inputs: []pack.Input{{Name: "root.img", Size: int64(len(disk)), Content: bytes.NewReader(disk)}},
	}); err != nil {
		t.Fatal(err)
	}
	head := list.Bytes()[:128<<10]
	at, n, manifest := findBlockList(head)
	if end := at + n; end < 150<<10 || end > 1<<20 {
		t.Fatalf("the block list ends at %d", end)
	}
	check := listCheck(head, at, n, manifest)
	rest := bytes.Clone(list.Bytes()[len(head) : at+n])
	if check == nil || !check(rest) {
		t.Fatal("the list does not match the manifest")
	}
	if rest[1000] ^= 1; check(rest) || check(rest[:2000]) {
		t.Fatal("another list matches the manifest")
	}
}

// TestPrefetchFails: what was asked for ahead and did not come is asked for again.
func TestPrefetchFails(t *testing.T) {
	const blk = 64 << 10
	data, fails := noise(8*blk), 1
	from := source.Func(func(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
		if fails--; fails >= 0 {
			return nil, errors.New("no")
		}
		return io.NopCloser(bytes.NewReader(data[off : off+n])), nil
	})
	a := &Archive{
		loose: from, id: remote.Identity{Size: int64(len(data))}, head: newHead(data[:blk]),
		env: Env{Go: func(f func(context.Context)) bool { go f(t.Context()); return true }},
	}
	a.PrefetchTail(t.Context())
	for _, p := range a.head.Load().pieces {
		<-p.done
	}
	p := make([]byte, 3000)
	for _, off := range []int64{0, blk - 1000, 3 * blk, int64(len(data)) - 3000, int64(len(data)) - tailBytes - 1000} {
		if n, err := a.ReadAt(t.Context(), p, off); n != len(p) || !bytes.Equal(p, data[off:off+3000]) {
			t.Errorf("at %d: %d bytes, %v", off, n, err)
		}
	}
}
