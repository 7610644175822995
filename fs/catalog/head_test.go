package catalog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/xvm/pack"
)

// TestForesee: after the first bytes of an archive one more round trip indexes
// it, block list and boot profile included.
func TestForesee(t *testing.T) {
	disk := diskImage(200*blk, 3)
	var list bytes.Buffer
	if _, err := pack.Pack(t.Context(), &list, pack.Options{
		Description: []byte("<xvm><name>test</name></xvm>"), Time: testTime, TempDir: t.TempDir(), BlockSize: pack.MinBlockSize,
		Profile: []byte("vmcast-profile 1\nroot.img 0 4096\n"),
		Inputs:  []pack.Input{{Name: "root.img", Size: int64(len(disk)), Content: bytes.NewReader(disk)}},
	}); err != nil {
		t.Fatal(err)
	}
	if end := blockListEnd(list.Bytes()[:128<<10]); end < 150<<10 || end > 1<<20 {
		t.Fatalf("the block list ends at %d", end)
	}
	for name, tc := range map[string]struct {
		pkg      []byte
		requests int64 // the tail, and what is between it and the first bytes
	}{
		"plain": {packed(t, false, nil, file{"root.img", disk}), 2},
		"list":  {list.Bytes(), 3},
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", tc.pkg)
		h := s.open()
		if p := h.pkg("one"); p.blocks == nil || h.file("one", "root.img") == nil {
			t.Errorf("%s: no block list", name)
		} else if err := p.blocks.hold(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		} else {
			p.blocks.letGo()
		}
		if n := s.origin.Stats("/one.xvm").Requests; n != tc.requests {
			t.Errorf("%s: %d requests, want %d", name, n, tc.requests)
			for _, r := range s.origin.Log() {
				t.Logf("%s %d+%d", r.Path, r.Off, r.Len)
			}
		}
		if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
			t.Errorf("%s: wrong bytes", name)
		}
	}
}

// failingOnce is a source whose first fetches fail.
type failingOnce struct {
	data  []byte
	fails int
}

func (f *failingOnce) Fetch(_ context.Context, off, n int64, _ source.Urgency) (io.ReadCloser, error) {
	if f.fails--; f.fails >= 0 {
		return nil, errors.New("no")
	}
	return io.NopCloser(bytes.NewReader(f.data[off : off+n])), nil
}

// TestForeseenFails: what was foreseen and did not come is asked for.
func TestForeseenFails(t *testing.T) {
	s := newSite(t)
	data := diskImage(8*blk, 4)
	s.release("one", "/one.xvm", data)
	a := &archive{Source: &failingOnce{data, 1}, id: remote.Identity{Size: int64(len(data))}, head: newHead(data[:blk])}
	a.foresee(t.Context(), s.open().Catalog)
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
