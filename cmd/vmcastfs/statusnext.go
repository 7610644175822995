package main

import (
	"cmp"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"

	"vmcastfs/cache/mirror"
	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/feed/show"
)

// nextStep is what to do next about a mount; the more urgent, the greater.
func nextStep(m *mountStatus) (urgency int, text string) {
	dir := hvconfig.ShellWord(show.Text(m.Dir))
	switch m.State {
	case "dead":
		return 9, "its process is gone; mount it again, or: vmcastfs umount " + dir
	case "hung":
		return 9, "it does not answer; end its process and mount it again"
	}
	st := m.Status
	if st == nil {
		return 0, "ask as the user who mounted it: vmcastfs status " + dir
	}
	at := func(u int, format string, args ...any) {
		if u > urgency {
			urgency, text = u, fmt.Sprintf(format, args...)
		}
	}
	at(1, "boot the newest release: vmcastfs config qemu %s", filepath.Join(dir, "latest"))
	if st.HTTP != "" {
		at(2, "see it in a browser: vmcastfs ui %s", dir)
	}
	feed := hvconfig.ShellWord(show.Text(m.Feed))
	for _, r := range st.Releases {
		name := show.Text(r.Name)
		switch {
		case r.Alarm != "":
			at(7, "ask the publisher about %s; if it is right so: vmcastfs trust accept %s %s", name, feed, hvconfig.ShellWord(name))
		case r.State == "refused":
			at(4, "%s is refused: get the publisher's key, check it, and put it into the keyring", name)
		case r.State == "listed" && r.Error != "":
			at(3, "have %s listed, which inflates it: vmcastfs prefetch %s", name, hvconfig.ShellWord(filepath.Join(show.Text(m.Dir), name)))
		case r.State == "rejected":
			at(4, "see what is wrong with %s: vmcastfs verify %s %s", name, feed, hvconfig.ShellWord(name))
		}
		if len(r.Incomplete) > 0 {
			at(8, "fetch the rest of %s while its server has it: vmcastfs prefetch %s", name, hvconfig.ShellWord(filepath.Join(show.Text(m.Dir), name)))
		}
		for _, f := range r.Files {
			if f.State == "corrupt" {
				at(8, "tell the publisher that %s/%s is corrupt: vmcastfs verify %s %s", name, show.Text(f.Name), feed, hvconfig.ShellWord(name))
			}
		}
	}
	for _, o := range st.Origins {
		switch i := slices.IndexFunc(st.Mirrors, func(x mirror.Status) bool { return isOrigin(o.Origin, x.URL) }); {
		case !o.Failing:
		case i >= 0 && st.Mirrors[i].State == "works": // it failed once, and is asked on
		case i >= 0:
			at(3, "look after the mirror %s, which is away; the origin is asked meanwhile", show.Text(st.Mirrors[i].URL))
		default:
			at(5, "look at the network: curl -I %s/", hvconfig.ShellWord(show.Text(o.Origin)))
		}
	}
	switch c := st.Cache; {
	case c.Failing:
		at(8, "look at the disk of the cache, %s", show.Text(c.Dir))
	case c.ReadOnly:
		at(5, "make the cache %s writable again", show.Text(c.Dir))
	case c.Refusing:
		at(6, "make room: vmcastfs cache prune, or mount with a larger cache_size=")
	}
	switch f := st.Feed; {
	case f.Rollback != "":
		at(7, "ask the publisher why the feed went back; if it is right so: vmcastfs trust accept %s", feed)
	case f.Stale:
		at(5, "check the feed: vmcastfs list %s", feed)
	}
	return urgency, text
}

// isOrigin tells whether a URL is below an origin.
func isOrigin(origin, at string) bool {
	a, err := url.Parse(origin)
	b, err2 := url.Parse(at)
	return err == nil && err2 == nil && a.Scheme == b.Scheme && a.Hostname() == b.Hostname() && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	return cmp.Or(u.Port(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
}

// nextLine says what to do next. A command that does not fit beside its reason has a
// line of its own: broken, it cannot be copied.
func nextLine(next string, width int) string {
	why, command, ok := strings.Cut(next, ": vmcastfs ")
	if !ok || width <= 0 || utf8.RuneCountInString("Next: "+next) <= width || strings.Contains(command, ", ") {
		return wrapped("Next: ", next, width)
	}
	return wrapped("Next: ", why+":", width) + "  vmcastfs " + command + "\n"
}
