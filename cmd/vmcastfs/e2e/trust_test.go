package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestTrustCommand: a release that changes and a feed that goes back raise
// alarms, are refused over restarts and without the cache, and are accepted by
// the operator while the mount runs.
func TestTrustCommand(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	g := newGnuPG(t)
	g.key("rsa", "ed25519", "never")
	ring := g.ring("rsa")
	good := func(seed byte) []byte {
		about, disk := member{"xvm.xml", []byte("<xvm/>")}, member{"root.img", lines(50_000, seed)}
		manifest := sha1sums(about, disk)
		return pack(t, about, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign("rsa", manifest)},
			member{"signature.asc", g.sign("rsa", about.content)}, disk)
	}
	w.publish("one", good(1))
	w.publish("two", good(2))
	logPath := filepath.Join(t.TempDir(), "log")
	opts := []string{"keyring=" + ring, "log=" + logPath}
	state := w.cache + "-state"
	w.mount(opts...)
	w.wantFile(lines(50_000, 1), "one", "root.img")
	w.wantFile(lines(50_000, 2), "two", "root.img")
	w.umount()
	if info, err := os.Stat(state); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", info, err)
	}
	if err := os.RemoveAll(w.cache); err != nil {
		t.Fatal(err)
	}

	// "one" changes under its name; "two" leaves the feed.
	w.origin.PutBytes("/one.xvm", good(3))
	w.items = w.items[:1]
	w.origin.PutBytes("/vmcast.xml", rss(w.items...))
	w.mount(opts...)
	refused := func() {
		t.Helper()
		if _, err := os.ReadFile(w.path("one", "root.img")); !errors.Is(err, syscall.EACCES) {
			t.Errorf("read: %v", err)
		}
	}
	testkit.Eventually(t, "what changed is noticed", time.Minute, func() bool {
		refused() // the first one by what was kept of the release, and has it looked at again
		return w.status().Releases[0].Alarm != ""
	})
	st := w.status()
	if !strings.Contains(st.Feed.Rollback, `the feed went back: its newest release is "one"`) {
		t.Errorf("feed: %+v", st.Feed)
	}
	if !strings.Contains(st.Releases[0].Alarm, "changed after it was first seen") {
		t.Errorf("release: %+v", st.Releases[0])
	}
	for _, args := range [][]string{{"status", w.dir}, {"list", "-o", w.options("keyring=" + ring), w.feed}, {"trust", "list", "-o", "state=" + state}} {
		out, _ := w.run(args...)
		if !strings.Contains(out, "ALARM") || !strings.Contains(out, "went back") {
			t.Errorf("%s says\n%s", args[0], out)
		}
	}
	if log := string(readAll(t, logPath)); !strings.Contains(log, "the feed went back") || !strings.Contains(log, "changed after it was first seen") {
		t.Errorf("log:\n%s", log)
	}

	out, err := w.run("trust", "accept", "-o", "state="+state, w.feed)
	if err != nil || !strings.Contains(out, "(rollback)") || !strings.Contains(out, "(changed)") {
		t.Errorf("accept: %v\n%s", err, out)
	}
	testkit.Eventually(t, "the mount takes it", time.Minute, func() bool {
		_, err := os.ReadFile(w.path("one", "root.img"))
		return err == nil
	})
	w.wantFile(lines(50_000, 3), "one", "root.img")
	if out, err := w.run("trust", "accept", "-o", "state="+state, w.feed); exitCode(err) != exitFailed {
		t.Errorf("accept again: %v\n%s", err, out)
	}
	out, err = w.run("trust", "list", "-o", "state="+state, w.feed)
	if err != nil || !strings.Contains(out, "signed by rsa <rsa@example.org>") || !strings.Contains(out, "accepted") || strings.Contains(out, "ALARM") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err := w.run("trust", "forget", "-o", "state="+state, w.feed, "one"); err != nil {
		t.Errorf("forget: %v\n%s", err, out)
	}
	if out, _ := w.run("trust", "list", "--json", "-o", "state="+state); strings.Contains(out, `"one"`) {
		t.Errorf("not forgotten:\n%s", out)
	}
	if out, err := w.run("trust", "accept", "-o", "state="+state, w.feed, "nobody"); exitCode(err) != exitFailed {
		t.Errorf("accept of nothing: %v\n%s", err, out)
	}
}

// TestStateUnwritable: a mount whose trust state cannot be written says so, and
// goes on only if signatures are not asked for.
func TestStateUnwritable(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"root.img", lines(1000, 1)}))
	g := newGnuPG(t)
	g.key("rsa", "ed25519", "never")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	bad := "cache=" + w.cache + ",cache_free=0,state=" + file
	out, err := w.run("mount", "-o", bad+",keyring="+g.ring("rsa"), w.feed, w.dir)
	if exitCode(err) != exitSystem || !strings.Contains(out, "trust state") || !strings.Contains(out, "state=DIR") {
		t.Errorf("require: %v\n%s", err, out)
	}
	logPath := filepath.Join(t.TempDir(), "log")
	w.opts = []string{"state=" + file}
	w.mount("sig=ignore", "log="+logPath)
	w.wantFile(lines(1000, 1), "one", "root.img")
	if log := string(readAll(t, logPath)); !strings.Contains(log, "not remembered") {
		t.Errorf("log:\n%s", log)
	}
}

// TestDefaultKeyring: with keys in /etc/vmcastfs/keys signatures are required,
// of every user and by every command; sig=ignore takes that back. Keys that
// cannot be read are not none.
func TestDefaultKeyring(t *testing.T) {
	t.Parallel()
	testkit.Need(t, "unshare")
	testkit.Need(t, "setpriv")
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a namespace with an /etc of its own")
	}
	g := newGnuPG(t)
	g.key("good", "ed25519", "never")
	dir := t.TempDir()
	open(t, dir, filepath.Dir(binary))
	disk := member{"root.img", lines(1000, 1)}
	manifest := sha1sums(disk)
	for name, content := range map[string][]byte{
		"unsigned.xvm": packListed(t, disk),
		"signed.xvm":   pack(t, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign("good", manifest)}, disk),
		"good.asc":     g.run("", "--batch", "--armor", "--export", g.user("good")),
		"feed.xml":     rss(item{"signed", "signed.xvm"}, item{"unsigned", "unsigned.xvm"}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// The namespace begins with copies of the mounts of other tests, which must
	// not live on by it.
	const script = `set -e
for m in $(grep fuse.vmcastfs /proc/mounts | cut -d" " -f2); do umount -l "$m" || true; done
mount -t tmpfs -o mode=755 none /etc; mkdir -p /etc/vmcastfs/keys
v() { setpriv --reuid=$uid --regid=$uid --clear-groups -- "$vmcastfs" "$@" 2>&1; }
no() { if v "$@"; then echo "no failure: $*"; exit 1; fi; }
v verify unsigned.xvm
if [ $uid = 0 ]; then # a mount that runs when the first key comes
  d=$(mktemp -d); mkdir $d/m
  v mount -o cache=$d/c,state=$d/s,cache_free=0 feed.xml $d/m
  cat $d/m/unsigned/root.img >/dev/null
fi
cp good.asc /etc/vmcastfs/keys/
if [ $uid = 0 ]; then
  i=0
  while cat $d/m/unsigned/root.img >/dev/null 2>&1; do
    i=$((i+1)); [ $i -lt 120 ] || { echo "the key that came does not count"; exit 1; }
    sleep 0.5
  done
  cat $d/m/signed/root.img >/dev/null
  umount $d/m
fi
v verify signed.xvm | grep 'manifest: good, by good'
no verify unsigned.xvm
v verify -o sig=ignore unsigned.xvm
d=$(mktemp -d); chown $uid $d
no list -o cache=$d/c,state=$d/s,cache_free=0 feed.xml >$d/list
grep -A1 '^unsigned ' $d/list | grep 'the manifest is not signed by a trusted key'
rm -r $d
mount -t tmpfs -o mode=0 none /etc/vmcastfs/keys
if [ $uid != 0 ]; then no verify unsigned.xvm; v verify -o sig=ignore unsigned.xvm; fi
`
	for _, uid := range []int{0, nobody} {
		if out, err := command(t, dir, "env", fmt.Sprintf("uid=%d", uid), "vmcastfs="+binary, "unshare", "-m", "sh", "-c", script); err != nil {
			t.Errorf("user %d: %v\n%s", uid, err, out)
		}
	}
}
