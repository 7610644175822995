package e2e

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestH1H4H13H18URLs has enclosures that lead to where nothing may be fetched,
// or nothing can be. That the rest of the feed can be used goes without saying,
// and is checked.
func TestH1H4H13H18URLs(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(5000, 1)
	w.origin.PutBytes("/one.xvm", packListed(t, member{"disk.img", disk}))
	secret := filepath.Join(t.TempDir(), "secret.tar")
	if err := os.WriteFile(secret, pack(t, member{"secret.img", []byte("stolen")}), 0o644); err != nil {
		t.Fatal(err)
	}
	for path, to := range map[string]string{
		"/loop.xvm": "/loop.xvm", "/file.xvm": "file://" + secret, "/ftp.xvm": "ftp://127.0.0.1/x", "/data.xvm": "data:text/plain,x",
		"/far.xvm": "/one.xvm?password=hunter2",
	} {
		w.origin.PutBytes(path, []byte("x"))
		w.origin.Inject(origin.Fault{Path: path, Kind: origin.Redirect, Value: to})
	}
	w.origin.PutBytes("/denied.xvm", nil)
	w.origin.Inject(origin.Fault{Path: "/denied.xvm", Kind: origin.Status, Status: 403})
	w.origin.PutBytes("/bomb.xvm", pack(t, member{"a.img", disk}))
	w.origin.Inject(origin.Fault{Path: "/bomb.xvm", Kind: origin.HeaderBomb})
	withUser := strings.Replace(w.origin.URL(), "://", "://admin:hunter2@", 1) + "/one.xvm"
	var items []hostileItem
	add := func(title, url string) {
		items = append(items, hostileItem{title: title, id: title, enclosures: enclosure(url)})
	}
	hidden := map[string]string{
		"h1-file": "file://" + secret, "h1-ftp": "ftp://127.0.0.1/x.xvm", "h1-gopher": "gopher://127.0.0.1/x.xvm",
		"h1-unix": "unix:/run/x.xvm", "h1-data": "data:application/x-xvm,x", "h1-script": "javascript:x.xvm", "h1-path": "http:///etc/passwd.xvm",
	}
	for title, url := range hidden {
		add(title, url)
	}
	rejected := map[string]string{
		"h4-loop": "loop.xvm", "h1-to-file": "file.xvm", "h1-to-ftp": "ftp.xvm", "h1-to-data": "data.xvm",
		"h13-denied": "denied.xvm", "h16-header": "bomb.xvm", "h2-link-local": "http://169.254.169.254/latest/meta-data.xvm",
	}
	for title, url := range rejected {
		add(title, url)
	}
	add("h18-user", withUser)
	add("h18-query", "far.xvm?token=hunter2")
	add("good", "one.xvm")
	w.serve(hostileFeed(items...))
	log := w.logged("soft", "timeo=3s")

	for title := range hidden {
		if _, err := os.Stat(w.path(title)); err == nil {
			t.Errorf("%s is shown", title)
		}
	}
	began := w.now()
	for title := range rejected {
		entries, err := os.ReadDir(w.path(title))
		if r := w.release(title); err == nil || r.State != "rejected" || r.Error == "" {
			t.Errorf("%s: %d entries, %v; state %s: %q", title, len(entries), err, r.State, r.Error)
		}
	}
	if d := w.now() - began; d > 2*time.Minute {
		t.Errorf("finding out took %v", d)
	}
	for _, title := range []string{"good", "h18-user", "h18-query"} {
		w.wantSoon(disk, title, "disk.img")
	}
	if n := w.origin.Stats("/loop.xvm").Requests; n > 40 {
		t.Errorf("H4: a loop was followed by %d requests", n)
	}

	// H18: no secret of a URL shows up where others look.
	mounts := string(readAll(t, "/proc/mounts"))
	for what, text := range map[string]string{"status.json": string(readAll(t, w.path(".vmcastfs/status.json"))), "the log": log(), "/proc/mounts": mounts} {
		wantPlain(t, what, strings.ReplaceAll(text, "\\040", " "))
		if i := strings.Index(text, "hunter2"); i >= 0 {
			t.Errorf("H18: %s tells a password: %s", what, text[max(0, i-100):i+10])
		}
	}
	for _, args := range hostileCommands(t, w) {
		if out, _ := w.run(args...); strings.Contains(out, "hunter2") {
			t.Errorf("H18: vmcastfs %s tells a password:\n%s", strings.Join(args, " "), out)
		}
	}
	if source := attr(w.path("h18-user", "disk.img"), "source"); source == "" || strings.Contains(source, "hunter2") {
		t.Errorf("H18: user.vmcast.source is %q", source)
	}
	// The feed's own address may not hold one at all.
	out, err := w.run("mount", "-o", w.options(), strings.Replace(w.feed, "://", "://admin:hunter2@", 1), t.TempDir())
	if err == nil || strings.Contains(out, "hunter2") || !strings.Contains(out, "netrc") {
		t.Errorf("H18: %v\n%s", err, out)
	}
}

// TestH7H8H9H10H11H12H17Answers gives wrong answers to reads of an image that
// was indexed while all was well; TestFaultyServer has the faults that pass.
// Whatever comes, no wrong byte is served, and none is kept.
func TestH7H8H9H10H11H12H17Answers(t *testing.T) {
	disk := noise(300_000, 1)
	for id, fault := range map[string]origin.Fault{
		"H7 whole answers":  {Kind: origin.IgnoreRange},
		"H8 other range":    {Kind: origin.WrongRange},
		"H8 mislabelled":    {Kind: origin.MislabelRange},
		"H8 no label":       {Kind: origin.NoRangeHeader},
		"H8 other total":    {Kind: origin.WrongTotal},
		"H9 multipart":      {Kind: origin.Multipart},
		"H10 gzip":          {Kind: origin.GzipEncoding},
		"H10 range on 200":  {Kind: origin.RangeOn200},
		"H11 flapping":      {Kind: origin.ChangeETag},
		"H12 cut":           {Kind: origin.Truncate, After: 1000},
		"H17 stall at once": {Kind: origin.Stall, After: 0},
	} {
		t.Run(id, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			w.publish("one", packListed(t, member{"xvm.xml", noise(150_000, 9)}, member{"disk.img", disk}))
			w.mount("soft", "timeo=2s", "complete=off")
			w.statSoon("one", "disk.img")
			fault.Path = "/one.xvm"
			remove := w.origin.Inject(fault)
			f, err := os.Open(w.path("one", "disk.img"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, len(disk))
			began := w.now()
			n, err := f.ReadAt(p, 0)
			if string(p[:n]) != string(disk[:n]) && fault.Kind != origin.MislabelRange {
				t.Errorf("wrong bytes among the first %d", n)
			}
			// Whole answers are one stream, which is read from its start; a wrong label is found below.
			if err == nil && fault.Kind != origin.MislabelRange && fault.Kind != origin.IgnoreRange {
				t.Error("the read succeeds")
			}
			if d := w.now() - began; d > time.Minute {
				t.Errorf("the read took %v", d)
			}
			f.Close()
			remove()
			if fault.Kind == origin.MislabelRange {
				// Nothing but the sums can tell: see S13.
				path := w.path("one", "disk.img")
				w.umount()
				w.mount("verify=strict")
				if got, err := os.ReadFile(path); err == nil && string(got) != string(disk) {
					t.Error("wrong bytes pass for checked ones")
				}
				return
			}
			// What was kept of all that is right.
			var got []byte
			testkit.Eventually(t, "the image can be read again", time.Minute, func() bool {
				got, err = os.ReadFile(w.path("one", "disk.img"))
				return err == nil
			})
			if string(got) != string(disk) {
				t.Error("the cache has wrong bytes")
			}
		})
	}
}

// TestF15H5Downgrade has a server of https lead feed and packages to http, where
// everybody on the way could change them.
func TestF15H5Downgrade(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	var plain atomic.Int64
	open := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		plain.Add(1)
		w.origin.ServeHTTP(rw, r)
	}))
	t.Cleanup(open.Close)
	var down atomic.Bool
	s := w.behind(&tls.Config{MinVersion: tls.VersionTLS12}, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if down.Load() {
			http.Redirect(rw, r, open.URL+r.URL.Path, http.StatusFound)
			return
		}
		w.origin.ServeHTTP(rw, r)
	}))
	options := []string{"cacert=" + secret(t, "ca.pem", pemOf("CERTIFICATE", s.Certificate().Raw)), "soft", "timeo=3s", "complete=off"}
	w.mount(options...)
	w.statSoon("latest", "disk.img")
	before := readAll(t, w.path("feed.xml"))

	down.Store(true)
	for _, pid := range w.daemons() {
		must(t, syscall.Kill(pid, syscall.SIGHUP))
	}
	testkit.Eventually(t, "F15: the status tells of the feed", time.Minute, func() bool {
		return strings.Contains(w.status().Feed.LastError, "http")
	})
	if got := readAll(t, w.path("feed.xml")); !bytes.Equal(got, before) {
		t.Errorf("F15: another feed is shown: %s", got)
	}
	if p, err := os.ReadFile(w.path("latest", "disk.img")); err == nil {
		t.Errorf("H5: %d bytes are read", len(p))
	}
	w.umount()
	w.cache = t.TempDir() // without a last good feed
	w.refused("http", options...)
	if n := plain.Load(); n != 0 {
		t.Errorf("http was asked %d times", n)
	}
}

// TestF4H15Feed is about how the feed itself is fetched; what takes minutes (F4)
// is tested where that can be turned: cache/remote and feed.
func TestF4H15Feed(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(5000, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount()
	w.wantFile(disk, "one", "disk.img")
	for _, r := range w.origin.Log() {
		if r.Method != "GET" {
			t.Errorf("H15: the server was asked %s %s", r.Method, r.Path)
		}
	}
	// F4: a feed that drips does not keep the mount from answering.
	w.serve(append(rss(w.items...), ' '))
	w.origin.Inject(origin.Fault{Kind: origin.DripFeed, Delay: time.Second, Path: "/vmcast.xml"})
	for _, pid := range w.daemons() {
		if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	began := w.now()
	for range 20 {
		w.wantFile(disk, "one", "disk.img")
		_ = w.status()
		if _, err := os.ReadDir(w.dir); err != nil {
			t.Error(err)
		}
	}
	if d := w.now() - began; d > time.Minute {
		t.Errorf("F4: the mount took %v to answer", d)
	}
}

// TestF3EndlessPackage verifies a package whose server has no ranges and never
// stops sending: the disk it is kept on meanwhile does not fill up.
func TestF3EndlessPackage(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to mount a small disk")
	}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for block := noise(1<<20, 1); ; {
			if _, err := rw.Write(block); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	tmp := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=600m", "tmpfs", tmp).CombinedOutput(); err != nil {
		t.Skipf("no small disk: %v %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("umount", "-l", tmp).Run() })
	cmd := exec.CommandContext(t.Context(), binary, "verify", server.URL+"/endless.xvm")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	out, err := cmd.CombinedOutput()
	if exitCode(err) != 2 || !strings.Contains(string(out), "would be left free") {
		t.Errorf("%v\n%s", err, out)
	}
	if entries, _ := os.ReadDir(tmp); len(entries) > 0 {
		t.Errorf("left behind: %v", entries)
	}
}
