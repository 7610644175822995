package main

import (
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
)

// TestCacheWasFull: status tells a cache that is full from one that was, and why.
func TestCacheWasFull(t *testing.T) {
	now := time.Now()
	for _, c := range []struct {
		ago      time.Duration
		refusing bool
		why      string
		want     string
		service  string // what systemctl status says
	}{
		{time.Second, true, "limit", ", FULL: 3 blocks served uncached, the last 1s ago (what is in use or pinned fills cache_size=)",
			"; the cache takes no more: what is in use or pinned fills cache_size="},
		{time.Second, false, "floor", ", FULL: 3 blocks served uncached, the last 1s ago (cache_free= leaves 1.0 GiB of its disk free)", ""},
		{time.Hour, true, "no space left on device", ", FULL: 3 blocks served uncached, the last 1h00m ago (its disk says: no space left on device)",
			"; the cache takes no more: its disk says: no space left on device"},
		{time.Hour, false, "limit", ", was full: 3 blocks served uncached, the last 1h00m ago (what is in use or pinned fills cache_size=), cached again since", ""},
		{time.Second, true, "input/output error", ", FAILING: 3 blocks served uncached, the last 1s ago (its disk says: input/output error)",
			"; the cache takes no more: its disk says: input/output error"},
		{time.Hour, false, "input/output error", ", was failing: 3 blocks served uncached, the last 1h00m ago (its disk says: input/output error), cached again since", ""},
	} {
		at := now.Add(-c.ago)
		st := catalog.Status{Cache: store.Stats{
			MinFree: 1 << 30, Full: 3, FullAt: &at, FullWhy: c.why, Failing: c.why == "input/output error", Refusing: c.refusing,
		}}
		if line := cacheLine(&st, now); !strings.HasSuffix(line, c.want) {
			t.Errorf("%s ago, refusing %v: %s", c.ago, c.refusing, line)
		}
		if line := summary("/d", st); !strings.HasSuffix(line, "cache 0 B"+c.service) {
			t.Error(line)
		}
	}
}

// TestOnScreen: what status --watch draws fits the terminal, long lines counted as
// the rows they take, and leaves nothing of what was drawn before.
func TestOnScreen(t *testing.T) {
	for _, c := range []struct {
		text          string
		width, height int
		want          string
	}{
		{"a\nb\n", 80, 24, "\x1b[H\x1b[Ja\nb\n"},
		{"a\nb\n", 0, 0, "\x1b[H\x1b[Ja\nb\n"},
		{"a\nb\nc\nd\n", 80, 5, "\x1b[H\x1b[Ja\nb\nc\nd\n"},
		{"a\nb\nc\nd\n", 80, 4, "\x1b[H\x1b[Ja\nb\n… 2 lines more\n"},
		{"a\näääää\nc\nd\n", 3, 5, "\x1b[H\x1b[Ja\näääää\n… 2 lines more\n"},
		{"a\nb\n", 80, 1, "\x1b[H\x1b[J… 2 lines more\n"},
	} {
		if got := string(onScreen([]byte(c.text), c.width, c.height)); got != c.want {
			t.Errorf("%q at %d×%d: %q, want %q", c.text, c.width, c.height, got, c.want)
		}
	}
}
