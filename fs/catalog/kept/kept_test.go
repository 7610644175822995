package kept

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"vmcastfs/feed"
)

// TestRoomIsMade: releases that are in their feed make room for others, the oldest
// first; withdrawn ones do not. What is read again is what was put.
func TestRoomIsMade(t *testing.T) {
	t.Parallel()
	d, err := Open(filepath.Join(t.TempDir(), "state"), "http://example.org/feed", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const most, withdrawn = 200, 20
	d.most = most
	put := func(i int, left time.Time) error {
		return d.Put(Release{Item: feed.Release{ID: fmt.Sprint(i), Name: fmt.Sprint("r", i)}, Package: []byte{byte(i)}, Withdrawn: left})
	}
	for i := range most + 50 {
		left := time.Time{}
		if i < withdrawn {
			left = time.Unix(1, 0)
		}
		if err := put(i, left); err != nil {
			t.Fatal(err)
		}
	}
	kept := make(map[string]bool)
	for r := range d.All() {
		kept[r.Item.Name] = true
	}
	if len(kept) > most || len(kept) < most*3/4 {
		t.Errorf("%d are kept", len(kept))
	}
	for i := range withdrawn {
		if r, err := d.Get(fmt.Sprint("r", i)); err != nil || r.Package[0] != byte(i) {
			t.Fatal(i, err)
		}
	}
	if kept[fmt.Sprint("r", withdrawn)] || !kept[fmt.Sprint("r", most+49)] {
		t.Error("the newest have made room")
	}
	for i := range most {
		if err := put(i, time.Unix(1, 0)); err != nil {
			t.Fatal(i, err)
		}
	}
	if put(most+100, time.Time{}) == nil {
		t.Error("there was room")
	}
}
