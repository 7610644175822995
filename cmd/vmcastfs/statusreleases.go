package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cmd/internal/page"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// releaseTable shows the releases in the order of the feed: in so many lines, those
// first that are at fault, in use, or partly here. 0 lines: all.
func releaseTable(m *mountStatus, room, width int, now time.Time) (shown table, more int) {
	list := m.Status.Releases
	order := make([]int, len(list))
	for i := range order {
		order[i] = i
	}
	limited := room > 0
	if limited {
		slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rankOf(&list[a]), rankOf(&list[b])) })
	}
	blocks := map[int]table{}
	for _, i := range order {
		var t table
		addRelease(&t, m, list[i], now)
		if room -= t.height(width); limited && room < 0 && len(blocks) > 0 {
			break
		}
		blocks[i] = t
	}
	shown.row("RELEASE", "STATE", "LOCAL", "SIZE", "RATE", "LEFT")
	for i := range list {
		if t, ok := blocks[i]; ok {
			shown.rows, shown.notes = append(shown.rows, t.rows...), append(shown.notes, t.notes...)
		}
	}
	if len(m.Images) == 0 {
		shown.cut(4) // nothing is fetched, so there are no rates
	}
	return shown, len(list) - len(blocks)
}

// rankOf is how much there is to say of a release; the less, the more.
func rankOf(r *catalog.ReleaseStatus) int {
	rank := 3
	if releaseFault(*r) != "" || len(r.Incomplete) > 0 {
		rank = 0
	}
	for _, f := range r.Files {
		switch {
		case f.State == "corrupt":
			return 0
		case f.Image && f.Open:
			rank = min(rank, 1)
		case f.Image && f.CachedBytes > 0:
			rank = min(rank, 2)
		}
	}
	return rank
}

func addRelease(t *table, m *mountStatus, r catalog.ReleaseStatus, now time.Time) {
	state, _ := page.ReleaseState(r.State)
	state = withdrawnState(state, r.Withdrawn)
	if r.Trust != nil && r.Trust.Manifest.Signer != "" {
		state += ", signed"
	}
	if r.Taken > 0 {
		state += ", " + humanize.IBytes(uint64(r.Taken)) + " so far"
	}
	t.row(show.Text(r.Name), state, "", "", "", "")
	t.note(show.Text(releaseFault(r)))
	if r.Withdrawn != nil {
		t.note(show.Text("the feed has dropped it; it stays: " + strings.Join(r.Held, ", ")))
	}
	if len(r.Incomplete) > 0 {
		t.note(show.Text(fmt.Sprintf("WARNING: not all here: %s. Machines that lie on it may fail. While its server still has it, fetch the rest: vmcastfs prefetch %s", strings.Join(r.Incomplete, ", "), filepath.Join(m.Dir, r.Name))))
	}
	for _, f := range r.Files {
		if !f.Image || f.NoDisk {
			continue
		}
		rate, left := "-", "-"
		for _, p := range m.Images {
			if p.Release == r.Name && p.File == f.Name {
				rate = perSecond(p.Rate)
				if p.ETA != nil {
					left = shortTime(time.Duration(*p.ETA * float64(time.Second)))
				}
			}
		}
		size := "?"
		if f.Size >= 0 {
			size = humanize.IBytes(uint64(f.Size))
		}
		state := page.ImageState(f)
		fault := show.Text(cmp.Or(f.LastError, note(f)))
		if f.LastError != "" {
			fault += ago(f.LastErrorAt, now)
		}
		t.row("  "+show.Text(f.Name), state, fmt.Sprintf("%.0f%%", f.Percent), size, rate, left)
		t.note(fault)
	}
}

// releaseFault is what is wrong with a release as a whole.
func releaseFault(r catalog.ReleaseStatus) string {
	switch {
	case r.Error != "":
		return r.Error
	case r.Alarm != "":
		return "ALARM: " + r.Alarm
	case r.Trust != nil && r.Trust.Manifest.State == "bad":
		return "signature of the manifest: " + r.Trust.Manifest.Reason
	case r.Trust != nil && r.Trust.Description.State == "bad":
		return "signature of the description: " + r.Trust.Description.Reason
	}
	return ""
}

// note is why a file is in its state, or checked as it is, where that is bad
// news.
func note(f image.Status) string {
	if f.State == "corrupt" {
		return f.Note
	}
	if f.VerifyNote != "" && f.State != "verified" && f.Verify != "" {
		return "verify=" + f.Verify + ": " + f.VerifyNote
	}
	return f.MirrorNote
}
