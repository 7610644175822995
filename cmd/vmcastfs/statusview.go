package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
)

// printStatus is the human form of status. All that came from elsewhere is made
// fit for a terminal.
func printStatus(w io.Writer, on screen, mounts []mountStatus, now time.Time) error {
	if len(mounts) == 0 {
		_, err := fmt.Fprintln(w, "no feed is mounted\nNext: vmcastfs mount FEED DIR")
		return err
	}
	var text strings.Builder
	urgency, next := -1, ""
	for i := range mounts {
		share := on
		share.height = on.height / len(mounts)
		if i > 0 {
			fmt.Fprintln(&text)
		}
		if err := printMount(&text, share, &mounts[i], now); err != nil {
			return err
		}
		if u, what := nextStep(&mounts[i]); u > urgency {
			urgency, next = u, what
		}
	}
	text.WriteString("\n" + nextLine(next, on.width))
	_, err := io.WriteString(w, on.paint(plainText(text.String()))) // a mount may be anybody's
	return err
}

func printMount(w *strings.Builder, on screen, m *mountStatus, now time.Time) error {
	before := w.Len()
	_, _ = io.WriteString(w, wrapped("", show.Text(m.Dir)+"  "+show.Text(m.Feed), on.width))
	st := m.Status
	if st == nil {
		_, err := io.WriteString(w, wrapped("  "+m.State+": ", show.Text(m.Error), on.width))
		return err
	}
	for _, line := range []struct{ label, text string }{
		{"  feed   ", feedLine(st, now)}, {"  cache  ", cacheLine(st, now)}, {"  reads  ", readsLine(m)},
	} {
		_, _ = io.WriteString(w, wrapped(line.label, line.text, on.width))
	}
	for _, line := range latencyLines(m) {
		w.WriteString(wrapped("         ", line, on.width))
	}
	if len(st.Origins) > 0 {
		var t table
		t.row("SERVER", "LATENCY", "RECEIVED", "REQUESTS", "ERRORS")
		for _, o := range st.Origins {
			t.row(show.Text(o.Origin), latency(o.Latency), received(o), fmt.Sprint(o.Requests), fmt.Sprint(o.Errors))
			if o.LastError != "" {
				label := "last error: "
				if o.Failing {
					label = "FAILING: "
				}
				t.note(label + show.Text(o.LastError) + ago(&o.LastTime, now))
			}
		}
		fmt.Fprintln(w)
		if err := t.print(w, on.width); err != nil {
			return err
		}
	}
	if len(st.Mirrors) > 0 {
		fmt.Fprintln(w)
		t := mirrorTable(st.Mirrors, now)
		if err := t.print(w, on.width); err != nil {
			return err
		}
	}
	fmt.Fprintln(w)
	room := 0
	if on.height > 0 {
		const below = 6 // the heading, what is left out, what to do next, and the prompt
		room = max(on.height-strings.Count(w.String()[before:], "\n")-below, 3)
	}
	t, more := releaseTable(m, room, on.width, now)
	if err := t.print(w, on.width); err != nil || more == 0 {
		return err
	}
	w.WriteString(wrapped("", fmt.Sprintf("… %s more; status --all shows them", count(more, "release")), on.width))
	return nil
}

// mirrorTable shows the mirrors, and what is wrong with them.
func mirrorTable(mirrors []mirror.Status, now time.Time) (t table) {
	t.row("MIRROR", "STATE", "RECEIVED", "LIES")
	for _, m := range mirrors {
		state := m.State
		if m.Until.After(now) {
			state += " for " + shortTime(m.Until.Sub(now))
		}
		t.row(show.Text(m.URL), state, humanize.IBytes(uint64(m.Bytes)), fmt.Sprint(m.Lies))
		if m.LastLie != "" {
			t.note("LIED: " + show.Text(m.LastLie) + ago(&m.LastLieTime, now))
		}
		if m.LastError != "" {
			t.note("last error: " + show.Text(m.LastError) + ago(&m.LastTime, now))
		}
	}
	return t
}

func feedLine(st *catalog.Status, now time.Time) string {
	gone := 0
	for _, r := range st.Releases {
		if r.Withdrawn != nil {
			gone++
		}
	}
	parts := []string{count(len(st.Releases)-gone, "release")}
	if gone > 0 {
		parts = append(parts, fmt.Sprintf("%d withdrawn", gone))
	}
	if t := st.Feed.LastSuccess; t != nil {
		parts = append(parts, "fetched"+ago(t, now))
	}
	if t := st.Feed.Next; t != nil && t.After(now) {
		parts = append(parts, "again in "+shortTime(t.Sub(now)))
	}
	if st.Feed.Stale {
		parts = append(parts, "STALE: "+show.Text(st.Feed.LastError))
	}
	if why := st.Feed.Rollback; why != "" {
		parts = append(parts, "ALARM: "+show.Text(why))
	}
	if why := st.Feed.TrustError; why != "" {
		parts = append(parts, "what is seen cannot be kept: "+show.Text(why))
	}
	if title := show.Text(st.Feed.Title); title != "" {
		parts = append(parts, title)
	}
	return strings.Join(parts, ", ")
}

func cacheLine(st *catalog.Status, now time.Time) string {
	c := st.Cache
	line := humanize.IBytes(uint64(c.Bytes))
	if c.Limit > 0 {
		line += fmt.Sprintf(" of %s (%d%%)", humanize.IBytes(uint64(c.Limit)), 100*c.Bytes/c.Limit)
	}
	line += fmt.Sprintf(" in %s, disk has %s left", count(c.Files, "file"), humanize.IBytes(uint64(max(c.Free, 0))))
	if c.Damaged > 0 {
		line += fmt.Sprintf(", %d damaged blocks dropped", c.Damaged)
	}
	if c.Full > 0 {
		const calm = 10 * time.Second // some blocks still find room in a cache that is full
		what, since := "FULL", ""
		if c.Failing {
			what = "FAILING"
		}
		if t := c.FullAt; !c.Refusing && t != nil && now.Sub(*t) > calm {
			what, since = "was "+strings.ToLower(what), ", cached again since"
		}
		line += fmt.Sprintf(", %s: %d blocks served uncached, the last%s (%s)%s", what, c.Full, ago(c.FullAt, now), refusedBecause(c), since)
	}
	if c.ReadOnly {
		line += ", READ-ONLY: what is cached is served, nothing more is kept"
	}
	return line
}

// refusedBecause is why the cache takes no more blocks.
func refusedBecause(c store.Stats) string {
	switch c.FullWhy {
	case "limit":
		return "what is in use or pinned fills cache_size="
	case "floor":
		return "cache_free= leaves " + humanize.IBytes(uint64(c.MinFree)) + " of its disk free"
	}
	if c.ReadOnly {
		return "its disk is read-only"
	}
	return "its disk says: " + show.Text(c.FullWhy)
}

func readsLine(m *mountStatus) string {
	r := m.Status.Reads
	line := "none yet"
	if r.Reads > 0 {
		line = fmt.Sprintf("%.1f%% of %s from the cache", 100*float64(r.Hits+r.PrefetchHits)/float64(r.Reads), humanize.Comma(r.Reads))
	}
	if m.Rate != nil {
		line += ", network " + perSecond(*m.Rate)
	}
	return line
}

// latencyLines say how fast the reads were that came from the cache, and others.
func latencyLines(m *mountStatus) (lines []string) {
	r := m.Status.Reads
	for _, x := range []struct {
		name string
		l    meter.Histogram
	}{{"hits", r.Latency.Hit}, {"fetched ahead", r.Latency.PrefetchHit}, {"misses", r.Latency.Miss}} {
		if n := x.l.Total(); n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %s, half within %s, 99%% within %s", x.name, humanize.Comma(n), rounded(x.l.Most(0.5)), rounded(x.l.Most(0.99))))
		}
	}
	return lines
}

// rounded has two digits.
func rounded(d time.Duration) time.Duration {
	unit := time.Microsecond
	for d/unit >= 100 {
		unit *= 10
	}
	return d.Round(unit)
}

// latency is the mean time to the head of an answer.
func latency(h meter.Histogram) string {
	n := h.Total()
	if n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ms", float64(h.Nanos)/1e6/float64(n))
}

func received(o remote.OriginStats) string {
	return humanize.IBytes(uint64(o.Bytes.Demand + o.Bytes.ReadAhead + o.Bytes.Background))
}

func perSecond(rate float64) string { return humanize.IBytes(uint64(rate)) + "/s" }

func ago(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return " " + shortTime(now.Sub(*t)) + " ago"
}

// shortTime has at most two units.
func shortTime(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
