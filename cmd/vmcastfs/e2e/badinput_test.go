package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestBadFeed: a mount that cannot be made is one sentence that says what,
// where and what to do.
func TestBadFeed(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	serve := func(path string, body []byte) string {
		w.origin.PutBytes(path, body)
		return w.origin.URL() + path
	}
	w.origin.Inject(origin.Fault{Path: "/forbidden.xml", Kind: origin.Status, Status: 403})
	w.origin.Inject(origin.Fault{Path: "/broken.xml", Kind: origin.Status, Status: 500})
	w.origin.Inject(origin.Fault{Path: "/endless.xml", Kind: origin.Endless})
	good := rss(item{"one", "one.xvm"})
	local := filepath.Join(t.TempDir(), "local.xml")
	if err := os.WriteFile(local, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		feed  string
		code  int
		words []string
	}{
		{"http://127.0.0.1:" + freePort(t) + "/vmcast.xml", exitMount, []string{"127.0.0.1:", "refused", "check the address and the network"}},
		{"http://no-such-host.invalid/vmcast.xml", exitMount, []string{"no-such-host.invalid", "check the address"}},
		{w.origin.URL() + "/missing.xml", exitMount, []string{"/missing.xml", "404", "check the address"}},
		{serve("/forbidden.xml", good), exitMount, []string{"/forbidden.xml", "403", "netrc=FILE"}},
		{serve("/broken.xml", good), exitMount, []string{"/broken.xml", "500"}},
		{serve("/login.xml", []byte("<!DOCTYPE html><html><title>Login</title></html>")), exitMount, []string{"/login.xml", "HTML page"}},
		{serve("/binary.xml", noise(9000, 1)), exitMount, []string{"/binary.xml", "binary data", "VMcast feed"}},
		{serve("/cut.xml", good[:len(good)/2]), exitMount, []string{"/cut.xml", "malformed", "VMcast feed"}},
		{serve("/empty.xml", nil), exitMount, []string{"/empty.xml", "empty"}},
		{serve("/news.xml", []byte(`<rss version="2.0"><channel><title>news</title><item><title>no package</title></item></channel></rss>`)), exitMount, []string{"/news.xml", "no release", "VMcast feed"}},
		{serve("/endless.xml", good), exitMount, []string{"/endless.xml", "too large"}},
		{"/no/such/file.xml", exitMount, []string{"/no/such/file.xml", "no such file"}},
		{local, exitMount, []string{"local.xml", "not an RSS, Atom or JSON feed"}},
		{"ftp://example.org/vmcast.xml", exitFailed, []string{"ftp://", "http or https"}},
		{"http://user:secret@example.org/vmcast.xml", exitFailed, []string{"netrc"}},
	} {
		began := w.now()
		wantFailure(t, exec.Command(binary, "mount", "-o", w.options(), c.feed, w.dir), c.code, c.words...)
		if d := w.now() - began; d > time.Minute {
			t.Errorf("%s: it took %s", c.feed, d)
		}
	}
	feed := serve("/good.xml", good)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	wantFailure(t, exec.Command(binary, "mount", "-o", w.options(), feed, "/no/such/dir"), exitMount, "/no/such/dir", "mkdir")
	wantFailure(t, exec.Command(binary, "mount", "-o", w.options(), feed, file), exitMount, file, "no directory")
	wantFailure(t, exec.Command(binary, "mount", "-o", w.options("frobnicate=1"), feed, w.dir), exitFailed, "frobnicate", "--help")
	wantFailure(t, exec.Command(binary, "mount", "-o", w.options("keyring=/no/keys"), feed, w.dir), exitFailed, "/no/keys")
	for option, words := range map[string]string{"header_file": "it is empty", "token_file": "it is empty", "netrc": "it is empty"} {
		cmd := exec.Command(binary, "mount", "-o", w.options(option+"="+file), feed, w.dir)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), file) || !strings.Contains(string(out), words) || strings.Contains(string(out), "the network") {
			t.Errorf("an empty %s: %v\n%s", option, err, out)
		}
	}
	wantFailure(t, exec.Command(binary, "mount", feed), exitFailed, "needs a FEED and a DIR")
	wantFailure(t, exec.Command(binary, "umount", w.dir), exitMount, "nothing is mounted on "+w.dir)
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) > 0 {
		t.Errorf("something is mounted: %v, %v", entries, err)
	}
}

// TestBadReleases puts bad packages beside a good one.
func TestBadReleases(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := member{"disk.img", noise(300_000, 1)}
	whole := packListed(t, disk)
	other := member{"disk.img", noise(300_000, 2)}
	cases := []struct {
		title   string
		archive []byte // nil: 404
		words   []string
		fails   bool // the release as a whole
	}{
		{"html", []byte("<!DOCTYPE html><html><body>Please log in</body></html>" + strings.Repeat(" ", 2000)), []string{"web page", "login"}, true},
		{"missing", nil, []string{"not on the server", "tell the publisher"}, true},
		{"cut-header", whole[:700], []string{"not whole"}, false},
		{"empty", []byte{}, nil, true},
		{"noise", noise(100_000, 5), nil, true},
		{"cut", whole[:200_000], []string{"not whole"}, false},
		{"dotdot", pack(t, member{"../evil.img", []byte("x")}, member{"a/../../evil2", []byte("x")}, disk), []string{`".."`}, false},
		{"twice", pack(t, disk, other, member{"b.img", other.content}), []string{"twice", "disk.img", "tell the publisher"}, true},
		{"mismatch", pack(t, member{"manifest.txt", sha1sums(other)}, disk), nil, false},
		{"good", whole, nil, false},
	}
	for _, c := range cases {
		w.publish(c.title, c.archive)
		if c.archive == nil {
			w.origin.Remove("/" + c.title + ".xvm")
		}
	}
	log := filepath.Join(t.TempDir(), "log")
	w.mount("log=" + log)
	for _, c := range cases {
		entries, err := os.ReadDir(w.path(c.title))
		st := w.release(c.title)
		if c.fails != (err != nil) {
			t.Errorf("%s: listing gives %v, %v", c.title, entries, err)
		}
		said := st.Error + strings.Join(st.Warnings, "; ") + strings.Join(st.Hidden, "; ")
		if c.fails && (st.State != "rejected" || st.Error == "") || c.title != "good" && c.title != "mismatch" && said == "" {
			t.Errorf("%s: the status is %q: %s", c.title, st.State, said)
		}
		t.Logf("%s: %s: %s", c.title, st.State, said)
		for _, word := range c.words {
			if !strings.Contains(said, word) {
				t.Errorf("%s: %q is not in %q", c.title, word, said)
			}
		}
		if c.fails && !strings.Contains(st.Error, "/"+c.title+".xvm") {
			t.Errorf("%s: it is not said where: %s", c.title, st.Error)
		}
		for _, e := range entries {
			if strings.Contains(e.Name(), "evil") {
				t.Errorf("%s shows %s", c.title, e.Name())
			}
		}
	}
	w.wantFile(disk.content, "good", "disk.img")
	hold(t, w.path("mismatch", "disk.img"))
	testkit.Eventually(t, "the mismatch is found", time.Minute, func() bool { return attr(w.path("mismatch", "disk.img"), "state") == "corrupt" })
	if _, err := os.ReadFile(w.path("cut", "disk.img")); err == nil {
		t.Error("an image that the archive does not hold whole can be read")
	}
	w.wantFile(disk.content, "dotdot", "disk.img")
	said := string(readAll(t, log))
	for _, c := range cases {
		n := strings.Count(said, " release="+c.title+" ") + strings.Count(said, " release="+c.title+"\n")
		if (n == 0) != (c.title == "good") || n > 4 {
			t.Errorf("the log has %d lines about %s:\n%s", n, c.title, said)
		}
	}

	// list shows them all, with the reasons, and its exit code says so.
	cmd := exec.Command(binary, "list", "--json", "-o", w.options(), w.feed)
	out, err := cmd.Output()
	if exitCode(err) != exitFailed {
		t.Errorf("list: %v", err)
	}
	var rows []struct{ Name, State, Error string }
	if err := json.Unmarshal(out, &rows); err != nil || len(rows) != len(cases) {
		t.Fatalf("list --json: %v\n%s", err, out)
	}
	for _, row := range rows {
		for _, c := range cases {
			cut := strings.HasPrefix(c.title, "cut")
			if c.title == row.Name && (c.fails || cut) != (row.Error != "") {
				t.Errorf("list: %+v", row)
			}
		}
	}
}

// TestUnreachablePackage: a server that does not answer holds up only those
// who look into its release, and not for ever.
func TestUnreachablePackage(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := member{"disk.img", noise(100_000, 1)}
	w.publish("good", packListed(t, disk))
	w.items = append(w.items, item{"gone", "http://127.0.0.1:" + freePort(t) + "/gone.xvm"})
	w.origin.PutBytes(appliance.FeedPath, rss(w.items...))
	w.mount()
	done := make(chan time.Duration)
	go func() {
		began := w.now()
		_, _ = os.ReadDir(w.path("gone"))
		done <- w.now() - began
	}()
	began := w.now()
	w.wantFile(disk.content, "good", "disk.img")
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 4 {
		t.Errorf("%v, %v", entries, err)
	}
	w.status()
	if d := w.now() - began; d > time.Minute {
		t.Errorf("the neighbours of an unreachable release waited %s", d)
	}
	if d := <-done; d > time.Minute {
		t.Errorf("listing an unreachable release took %s", d)
	} else {
		t.Logf("listing an unreachable release took %s: %s", d, w.release("gone").Error)
	}
}
