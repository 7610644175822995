package cache

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/cache/trace"
)

// TestPieces: the pieces are what the cache has, and the recorder is told of every
// read, what it waited for, and why each block came.
func TestPieces(t *testing.T) {
	const bs = DefaultBlockSize
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		st := newStoreAt(t, dir)
		c := newCache(t, Options{Store: st})
		r := trace.NewRecorder(&trace.Pool{}, bs, nil, func() {})
		defer r.Stop()
		f := mustOpen(t, c, Spec{
			Size: 256*bs - 1, Source: newLink(256*bs, 30*time.Millisecond, 1<<30), Recorder: r,
			Data: []Extent{{0, 192 * bs}}, // the last quarter is a hole
		})
		readAt(t, f, 9*bs)
		synctest.Wait()
		time.Sleep(time.Second)
		readAt(t, f, 10*bs)
		readAt(t, f, 10*bs)
		synctest.Wait()
		f.Follow([]Extent{{64 * bs, 2 * bs}})
		done := make(chan time.Duration)
		go func() { done <- readAt(t, f, 64*bs) }()
		synctest.Wait()
		coming := int64(0)
		for _, p := range f.Pieces(4, nil) {
			coming += p.Coming
		}
		if coming != 2 { // those of the profile
			t.Errorf("%d blocks are on their way", coming)
		}
		<-done
		time.Sleep(time.Second)
		want := []Piece{{store.Column{Blocks: 64, Here: 8}, 0}, {store.Column{Blocks: 64, Here: 2}, 0}, {store.Column{Blocks: 64}, 0}, {store.Column{Blocks: 64, Here: 64, Zero: 64}, 0}}
		if got := f.Pieces(4, nil); !slices.Equal(got, want) {
			t.Errorf("pieces %+v\nwant   %+v", got, want)
		}
		want[0].Elsewhere, want[1].Elsewhere = 3, 2 // those that are here, and no zeros
		if got := f.Pieces(4, trace.Runs{{Block: 0, N: 4}, {Block: 13, N: 130}, {Block: 200, N: 1}}); !slices.Equal(got, want) {
			t.Errorf("pieces %+v\nwant   %+v", got, want)
		}
		for b, p := range f.Pieces(1<<20, nil) {
			here := b >= 8 && b < 16 || b == 64 || b == 65 || b >= 192
			if p.Blocks != 1 || (p.Here == 1) != here {
				t.Errorf("block %d: %+v", b, p)
			}
		}
		tr := r.Trace(f.Status().Size)
		hows := []trace.How{}
		for _, x := range tr.Reads {
			hows = append(hows, x.How)
		}
		if want := []trace.How{trace.Miss, trace.Ahead, trace.Hit, trace.Ahead}; !slices.Equal(hows, want) {
			t.Errorf("reads %v, want %v", hows, want)
		}
		if tr.Reads[0].Took < 30_000 || tr.Reads[2].Took > 1000 {
			t.Errorf("they took %+v", tr.Reads)
		}
		why := map[trace.Why]uint32{}
		for _, a := range tr.Arrivals {
			why[a.Why] += a.N
		}
		if why[trace.Asked] != 1 || why[trace.Along] != 7 || why[trace.Profile] != 2 || tr.Arrivals[0].At < 30_000 {
			t.Errorf("why: %v of %+v", why, tr.Arrivals)
		}
		if err := tr.Check(); err != nil {
			t.Error(err)
		}
	})
}

// TestColumnsOfAHugeFile: to divide a TiB into pieces costs little.
func TestColumnsOfAHugeFile(t *testing.T) {
	t.Parallel()
	c := newCache(t, Options{Store: newStore(t, store.Options{})})
	f := mustOpen(t, c, Spec{Size: 1 << 40, Source: source.Wrap(&script{data: truth(1 << 20)}, nil)})
	pieces := f.Pieces(500, nil)
	blocks := int64(0)
	for i, p := range pieces {
		blocks += p.Blocks
		if at := store.ColumnStart(i, 500, 1<<24); columnOf(at, 500, 1<<24) != i || i > 0 && columnOf(at-1, 500, 1<<24) != i-1 {
			t.Errorf("column %d begins at %d", i, at)
		}
	}
	if len(pieces) != 500 || blocks != 1<<24 {
		t.Errorf("%d pieces of %d blocks", len(pieces), blocks)
	}
}
