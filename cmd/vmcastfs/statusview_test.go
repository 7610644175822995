package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
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
		text   string
		on     screen
		screen string
	}{
		{"a\nb\n", screen{width: 80, height: 24}, "a|b"},
		{"a\nb\n", screen{}, "a|b"},
		{"a\nb\nc\nd\n", screen{width: 80, height: 5}, "a|b|c|d"},
		{"a\nb\nc\nd\n", screen{width: 80, height: 4}, "a|… 2 lines more|d"},
		{"a\näääää\nc\nd\n", screen{width: 3, height: 5}, "a|… 2 lines more|d"},
		{"\x1b[31mabc\x1b[0m\nb\nc\n", screen{width: 3, height: 4}, "\x1b[31mabc\x1b[0m|b|c"},
		{"a\nb\n", screen{width: 80, height: 1}, "… 1 lines more|b"},
	} {
		want := "\x1b[H" + strings.ReplaceAll(c.screen, "|", "\x1b[K\n") + "\x1b[K\n\x1b[J"
		if got := string(onScreen([]byte(c.text), c.on)); got != want {
			t.Errorf("%q at %+v: %q, want %q", c.text, c.on, got, want)
		}
	}
}

// TestOneScreen: status of many releases fills one screen, and tells first of what is
// at fault or in use; its last line says what to do next.
func TestOneScreen(t *testing.T) {
	m := mountStatus{Dir: "/srv/vmcast", Feed: "https://example.org/vmcast.xml", State: "mounted", Status: &catalog.Status{}}
	for i := range 1000 {
		m.Status.Releases = append(m.Status.Releases, catalog.ReleaseStatus{Name: fmt.Sprintf("debian-%d", 1000-i), State: "listed"})
	}
	used, bad := &m.Status.Releases[500], &m.Status.Releases[900]
	used.State, used.Files = "indexed", []image.Status{{Name: "root.img", Image: true, Open: true, State: "partial", CachedBytes: 1, Percent: 2}, {Name: "vmlinuz", Image: true, NoDisk: true}}
	bad.State, bad.Error = "refused", "nobody trusted signed it"
	show := func(on screen) string {
		t.Helper()
		var text strings.Builder
		if err := printStatus(&text, on, []mountStatus{m}, time.Now()); err != nil {
			t.Fatal(err)
		}
		return text.String()
	}
	for _, on := range []screen{{width: 80, height: 24}, {width: 120, height: 40}, {width: 80, height: 10}} {
		text := show(on)
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		for _, want := range []string{"debian-500 ", "partial, open", "debian-100 ", "refused", "more; status --all"} {
			if on.height > 20 && !strings.Contains(text, want) {
				t.Errorf("%+v lacks %q:\n%s", on, want, text)
			}
		}
		if on.height > 20 && (len(lines) >= on.height || len(lines) < on.height-4) {
			t.Errorf("%d lines at %+v:\n%s", len(lines), on, text)
		}
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "Next: debian-100 is refused: ") && on.width > 100 || strings.Contains(text, "vmlinuz") || strings.Contains(text, "\x1b") {
			t.Errorf("%+v ends with %q", on, last)
		}
	}
	if text := show(screen{}); strings.Count(text, "\n") < 1000 {
		t.Error("no terminal does not get all")
	}
	// Colours are for states, not for what strangers call themselves.
	m.Status.Releases[0].Name = "corrupt  ready\x1b[31m"
	text := show(screen{width: 80, height: 24, colour: true})
	for _, want := range []string{"\x1b[31mrefused\x1b[0m", "\x1b[33mpartial, open\x1b[0m", "\x1b[1mNext: "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%q", want, text)
		}
	}
	if !strings.Contains(text, "\ncorrupt ready  not opened yet\n") {
		t.Errorf("a name has a colour:\n%q", text)
	}
}

// TestNextLine: a command that is to be copied is in one line, however narrow the screen.
func TestNextLine(t *testing.T) {
	t.Parallel()
	const long = "boot the newest release: vmcastfs config qemu /srv/a-place-whose-name-takes-much-room/latest"
	for width, want := range map[int]string{
		0: "Next: " + long + "\n", 120: "Next: " + long + "\n",
		80: "Next: boot the newest release:\n  vmcastfs config qemu /srv/a-place-whose-name-takes-much-room/latest\n",
	} {
		if got := nextLine(long, width); got != want {
			t.Errorf("%d columns:\n%s", width, got)
		}
	}
}

// TestNextStep: the most urgent thing is what is told.
func TestNextStep(t *testing.T) {
	m := mountStatus{Dir: "/srv/my vms", Feed: "https://example.org/a?b&c", State: "mounted", Status: &catalog.Status{}}
	step := func(want string) {
		t.Helper()
		if _, got := nextStep(&m); !strings.Contains(got, want) {
			t.Errorf("next is %q, want %q", got, want)
		}
	}
	step("vmcastfs config qemu '/srv/my vms'/latest")
	m.Status.HTTP = "unix:/x"
	step("vmcastfs ui '/srv/my vms'")
	m.Status.Origins = []remote.OriginStats{{Origin: "http://rack-1:80", Failing: true}}
	m.Status.Mirrors = []mirror.Status{{URL: "http://rack-1", State: "paused"}}
	step("the mirror http://rack-1, which is away; the origin is asked")
	m.Status.Releases = []catalog.ReleaseStatus{{Name: "a", State: "listed", Error: "it is compressed as a whole"}}
	m.Status.Mirrors[0].State = "works"
	step("vmcastfs prefetch '/srv/my vms/a'")
	m.Status.Origins[0].Origin = "http://rack-1:8080" // another server than the mirror
	step("curl -I http://rack-1:8080/")
	m.Status.Origins = nil
	m.Status.Releases = []catalog.ReleaseStatus{{Name: "a", State: "rejected"}}
	step("vmcastfs verify 'https://example.org/a?b&c' a")
	m.Status.Feed.Stale = true
	step("vmcastfs list 'https://example.org/a?b&c'")
	m.Status.Cache.Refusing = true
	step("cache prune")
	m.Status.Feed.Rollback = "older"
	step("trust accept")
	m.Status.Releases[0].Files = []image.Status{{Name: "x.img", State: "corrupt"}}
	step("a/x.img is corrupt")
	m.State = "dead"
	step("umount '/srv/my vms'")
}
