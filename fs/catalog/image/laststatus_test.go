package image

import (
	"strings"
	"testing"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
)

// TestClosedWhileBlocksCome: a block that was on its way when its image was closed is
// counted afterwards, and nothing is on its way any more.
func TestClosedWhileBlocksCome(t *testing.T) {
	st, err := store.Open(store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	key := store.Key(strings.Repeat("1", 64))
	file, err := st.File(key, 2*blk, blk)
	if err != nil {
		t.Fatal(err)
	}
	last := cache.Status{State: store.Partial.String(), Size: 2 * blk, InFlight: 1}
	if err := file.WriteBlock(0, make([]byte, blk)); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	var l lastStatus
	l.set(st, key, last, false)
	if l.CachedBytes != blk || l.InFlight != 0 || l.Percent != 50 {
		t.Errorf("%+v", l.Status)
	}
}
