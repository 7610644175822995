package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
)

// TestManySmallFiles: releases of many small files are walked and read in a cache that
// holds little more than one of them. The limit of the disk holds, little more than
// their bytes is fetched, and memory stays small.
func TestManySmallFiles(t *testing.T) {
	t.Parallel()
	const limit, files = 20 << 20, 1500
	releases := 16
	if raceEnabled {
		releases = 4
	}
	w := bareWorld(t)
	w.plain = fastBinary(t)
	members := make([]member, files)
	content := noise(13<<20, 7)
	for i := range members {
		members[i] = member{fmt.Sprintf("d%d/f%d.txt", i/100, i), content[i*8700:][:8000+i%1300]}
	}
	archive := packListed(t, members...)
	for i := range releases {
		w.publish(fmt.Sprint("text", i), archive)
	}
	want := make(map[string][]byte)
	for _, m := range members {
		want[m.name] = m.content
	}
	w.mount(fmt.Sprint("cache_size=", limit), "complete=off")
	stop := make(chan struct{})
	most := watchUse(func() int64 { return diskUse(w.cache) }, stop)
	// A complete find comes first for some: it has to fetch what lies between the headers,
	// and the cache cannot hold that until it is read.
	const found = 4
	for i := range found {
		if err := filepath.WalkDir(w.path(fmt.Sprint("text", i)), func(_ string, _ fs.DirEntry, err error) error { return err }); err != nil {
			t.Error(err)
		}
	}
	find := w.packageStats().BytesSent
	read := 0
	for i := range releases {
		root := w.path(fmt.Sprint("text", i))
		if err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			name, _ := filepath.Rel(root, path)
			if err != nil || want[name] == nil {
				return err
			}
			read++
			if !bytes.Equal(readAll(t, path), want[name]) {
				t.Errorf("%s: wrong bytes", path)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if read != releases*files {
		t.Errorf("%d files of %d were read", read, releases*files)
	}
	st := w.packageStats()
	sent, all := st.BytesSent, int64(releases*len(archive))
	peak := 0
	for _, pid := range w.daemons() {
		peak = max(peak, residentKiB(t, pid))
	}
	t.Logf("%d KiB of disk, %d MiB resident, %d MiB to find %d releases, then %d MiB in %d requests for %d MiB", most()>>10, peak>>10, find>>20, found, (sent-find)>>20, st.Requests, all>>20)
	if most() > limit+limit/64 {
		t.Errorf("the cache took %d bytes of %d", most(), limit)
	}
	// Some are indexed ahead of the walk, and pushed out again before it comes to them: of
	// few releases that is more than a third.
	if all := all + found*int64(len(archive)); sent > max(all*13/10, all+3*int64(len(archive))) {
		t.Errorf("%d bytes were fetched to find and read %d", sent, all)
	}
	if peak > 180<<10 {
		t.Errorf("the daemon took %d MiB", peak>>10)
	}
}
