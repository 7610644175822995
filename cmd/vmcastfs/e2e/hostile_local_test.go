package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestL2PreparedDirectories has another user prepare the places that root's
// cache and trust state are to go to.
func TestL2PreparedDirectories(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, and another user")
	}
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", noise(5000, 1)}))
	// A directory that all may write to, like /tmp.
	shared := t.TempDir()
	open(t, shared)
	if err := os.Chmod(shared, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.Mkdir(victim, 0o755); err != nil {
		t.Fatal(err)
	}
	theirs := func(name string, make func(path string) error) string {
		path := filepath.Join(shared, name)
		if err := make(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		return path
	}
	link := theirs("link", func(p string) error { return os.Symlink(victim, p) })
	dir := theirs("dir", func(p string) error { return os.Mkdir(p, 0o700) })
	file := theirs("file", func(p string) error { return os.WriteFile(p, nil, 0o600) })
	fifo := theirs("fifo", func(p string) error { return syscall.Mkfifo(p, 0o600) })
	ours := func() string { return filepath.Join(t.TempDir(), "cache") }
	for name, list := range map[string]string{
		"link": "cache=" + link, "directory": "cache=" + dir, "file": "cache=" + file, "fifo": "cache=" + fifo,
		"system directory": "cache=/etc", "used directory": "cache=" + filepath.Dir(victim),
	} {
		out, err := w.run("mount", "-o", list+",state="+ours(), w.feed, w.dir)
		if exitCode(err) != 2 {
			t.Errorf("cache is a prepared %s: %v\n%s", name, err, out)
		}
		wantPlain(t, name, out)
	}
	if out, err := w.run("mount", "-o", "sig=ignore,cache="+ours()+",state=/etc", w.feed, w.dir); err == nil {
		_, _ = w.run("umount", w.dir)
	} else {
		t.Errorf("state is a system directory: %v\n%s", err, out)
	}
	if info, err := os.Stat("/etc"); err != nil || info.Mode().Perm()&0o055 == 0 {
		t.Errorf("/etc is %v, %v now", info.Mode(), err)
	}
	for name, state := range map[string]string{"link": link, "directory": dir, "file": file} {
		out, err := w.run("mount", "-o", "sig=ignore,cache="+ours()+",state="+state, w.feed, w.dir)
		if err == nil {
			// Without signatures a mount goes on, and says that it keeps no state.
			_, _ = w.run("umount", w.dir)
		}
		if entries, _ := os.ReadDir(victim); len(entries) > 0 {
			t.Errorf("state is a prepared %s: %v in the directory it leads to\n%s", name, entries, out)
		}
	}
	if info, err := os.Stat(victim); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the directory that the link leads to is %v, %v", info, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) > 0 {
		t.Errorf("%v in the other user's directory", entries)
	}

	// What is ours is nobody else's.
	log := filepath.Join(t.TempDir(), "log")
	w.mount("log=" + log)
	w.wantFile(noise(5000, 1), "one", "disk.img")
	for _, root := range []string{w.cache, w.cache + "-state"} {
		_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Error(err)
				return nil
			}
			if info, err := d.Info(); err == nil && path == root && info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s is %v", path, info.Mode())
			}
			return nil
		})
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("the log is %v, %v", info, err)
	}
}

// TestL2LinksInsideTheCache plants links among the files of a cache, as who
// once had the right to write there might have.
func TestL2LinksInsideTheCache(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(200_000, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	w.mount("complete=off")
	readAll(t, w.path("one", "disk.img"))
	w.umount()
	secret := filepath.Join(t.TempDir(), "secret")
	content := bytes.Repeat([]byte("secret"), 1000)
	if err := os.WriteFile(secret, content, 0o600); err != nil {
		t.Fatal(err)
	}
	planted := 0
	_ = filepath.WalkDir(w.cache, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(path, ".data") || strings.Contains(path, "/docs/")) {
			if os.Remove(path) == nil && os.Symlink(secret, path) == nil {
				planted++
			}
		}
		return nil
	})
	if planted < 2 {
		t.Fatalf("%d links planted", planted)
	}
	// It may fail, and it may work without what is linked: it follows nothing.
	if out, err := w.run("mount", "-o", w.options("soft", "timeo=5s"), w.feed, w.dir); err == nil {
		if got, err := os.ReadFile(w.path("one", "disk.img")); err == nil && !bytes.Equal(got, disk) {
			t.Error("a link was followed: the image has other bytes")
		}
		if got := readAll(t, w.path("feed.xml")); bytes.Contains(got, []byte("secret")) {
			t.Error("a link was followed: feed.xml has other bytes")
		}
		w.umount()
	} else {
		wantPlain(t, "mount", out)
	}
	if got := readAll(t, secret); !bytes.Equal(got, content) {
		t.Error("a link was followed: the file it leads to was written to")
	}
}

// TestL2LocalFeedOfAnotherUser has root mount a feed that is a file of somebody
// else's: it shows nothing that its writer could not read.
func TestL2LocalFeedOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, and another user")
	}
	w := bareWorld(t)
	home := t.TempDir()
	write := func(path string, content []byte, uid int) string {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Lchown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
		return path
	}
	disk := []byte("a disk")
	secret := write(filepath.Join(t.TempDir(), "secret.tar"), pack(t, member{"disk.img", disk}), 0)
	own := write(filepath.Join(home, "own.tar"), pack(t, member{"disk.img", disk}), nobody)
	if err := os.Symlink(secret, filepath.Join(home, "link.tar")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(home, "fifo.tar"), 0o600); err != nil {
		t.Fatal(err)
	}
	feed := hostileFeed(
		hostileItem{title: "secret", id: "1", enclosures: enclosure((&url.URL{Scheme: "file", Path: secret}).String())},
		hostileItem{title: "link", id: "2", enclosures: enclosure("link.tar")},
		hostileItem{title: "up", id: "3", enclosures: enclosure("../../../../../../../../.." + secret)},
		hostileItem{title: "fifo", id: "4", enclosures: enclosure("fifo.tar")},
		hostileItem{title: "shadow", id: "5", enclosures: enclosure("file:///etc/shadow")},
		hostileItem{title: "device", id: "6", enclosures: enclosure("file:///dev/zero")},
		hostileItem{title: "own", id: "7", enclosures: enclosure(filepath.Base(own))},
	)
	for uid, reads := range map[int]string{nobody: "own", 0: "link own secret up"} {
		w.feed = write(filepath.Join(home, fmt.Sprint("feed", uid, ".xml")), feed, uid)
		w.mount("cache=" + t.TempDir())
		out, _ := w.run("verify", w.feed)
		if n := strings.Count(out, "disk.img"); n != len(strings.Fields(reads)) {
			t.Errorf("verify of a feed of user %d:\n%s", uid, out)
		}
		if uid == nobody { // who wrote the feed that is shown counts, not whose file is in its place by now
			if err := errors.Join(os.Remove(w.feed), os.Symlink("/etc/passwd", w.feed), os.Lchown(w.feed, uid, uid)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		for _, name := range []string{"device", "fifo", "link", "own", "secret", "shadow", "up"} {
			if p, err := os.ReadFile(w.path(name, "disk.img")); err == nil && bytes.Equal(p, disk) {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != reads {
			t.Errorf("of a feed of user %d can be read %q, want %q", uid, s, reads)
		}
		if uid == nobody && !strings.Contains(w.release("secret").Error, "belongs to user 0") {
			t.Errorf("the status says %q", w.release("secret").Error)
		}
		w.umount()
	}
}

// TestL6UserMount: what an ordinary user mounts is seen by that user, and
// shows nothing that the user could not read.
func TestL6UserMount(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to become another user")
	}
	testkit.Need(t, "setpriv")
	w := bareWorld(t)
	h := userHost(t, "")
	home := t.TempDir()
	open(t, w.dir, home, filepath.Dir(binary))
	for _, dir := range []string{w.dir, home} {
		if err := os.Chown(dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(home, "secret.tar")
	feed := filepath.Join(home, "vmcast.xml")
	for path, content := range map[string][]byte{
		secret:                          pack(t, member{"disk.img", []byte("secret")}),
		filepath.Join(home, "good.tar"): pack(t, member{"disk.img", []byte("good")}),
		feed:                            hostileFeed(hostileItem{title: "secret", id: "1", enclosures: enclosure("secret.tar")}, hostileItem{title: "good", id: "2", enclosures: enclosure("good.tar")}),
	} {
		mode := fs.FileMode(0o644)
		if path == secret {
			mode = 0o600
		}
		if err := os.WriteFile(path, content, mode); err != nil {
			t.Fatal(err)
		}
	}
	run := func(uid int, args ...string) (string, int) {
		return h.command([]string{"HOME=" + home, "PATH=/usr/bin:/bin"}, append([]string{"/usr/bin/setpriv"}, as(uid, args...)[1:]...)...)
	}
	if out, code := run(nobody, binary, "mount", feed, w.dir); code != 0 {
		t.Fatalf("mount: exit code %d\n%s", code, out)
	}
	if out, code := run(nobody, "cat", filepath.Join(w.dir, "good/disk.img")); code != 0 || out != "good" {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if out, code := run(nobody, "cat", filepath.Join(w.dir, "secret/disk.img")); code == 0 {
		t.Errorf("a file that the user cannot read: %s", out)
	}
	for uid, who := range map[int]string{other: "another user", 0: "root"} {
		if out, code := run(uid, "ls", w.dir); code == 0 {
			t.Errorf("%s sees %s", who, out)
		}
	}
	if out, code := run(nobody, binary, "umount", w.dir); code != 0 {
		t.Errorf("umount: %d\n%s", code, out)
	}
}

// TestL7Sockets: a mount listens nowhere unless asked to, and then only for its
// own user or machine.
func TestL7Sockets(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", noise(5000, 1)}))
	dir := t.TempDir()
	w.mount()
	for _, pid := range w.daemons() {
		if l := listeners(t, pid); len(l) > 0 {
			t.Errorf("the daemon listens: %v", l)
		}
	}
	w.umount()
	socket := filepath.Join(dir, "metrics")
	w.mount("metrics=unix:" + socket)
	info, err := os.Lstat(socket)
	if err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	w.umount()
	for _, address := range []string{"0.0.0.0:9000", ":9000", "[::]:9000", "192.0.2.1:9000", "unix:relative", "unix:" + dir + "/../" + filepath.Base(dir) + "/file"} {
		if err := os.WriteFile(filepath.Join(dir, "file"), []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := w.run("mount", "-o", w.options("metrics="+address), w.feed, w.dir); err == nil {
			t.Errorf("metrics=%s is taken: %s", address, out)
			w.umount()
		}
	}
	if got := readAll(t, filepath.Join(dir, "file")); string(got) != "precious" {
		t.Error("a file was replaced by a socket")
	}
	// A link in the place of the socket is not followed.
	if err := os.Symlink(filepath.Join(dir, "file"), socket); err != nil {
		t.Fatal(err)
	}
	if out, err := w.run("mount", "-o", w.options("metrics=unix:"+socket), w.feed, w.dir); err == nil {
		t.Errorf("a link is replaced: %s", out)
		w.umount()
	}
	if got := readAll(t, filepath.Join(dir, "file")); string(got) != "precious" {
		t.Error("a link was followed")
	}
}

// listeners are the sockets that a process listens on.
func listeners(t testing.TB, pid int) (found []string) {
	t.Helper()
	own := socketsOf(t, pid)
	for _, table := range []string{"tcp", "tcp6", "udp", "udp6", "unix"} {
		for line := range strings.Lines(string(readAll(t, fmt.Sprintf("/proc/%d/net/%s", pid, table)))) {
			f := strings.Fields(line)
			switch {
			case table == "unix" && len(f) >= 7 && own[f[6]] && f[3] == "00010000", // SO_ACCEPTCON
				strings.HasPrefix(table, "tcp") && len(f) > 9 && own[f[9]] && f[3] == "0A",
				strings.HasPrefix(table, "udp") && len(f) > 9 && own[f[9]] && f[3] == "07":
				found = append(found, table+" "+strings.TrimSpace(line))
			}
		}
	}
	return found
}

// served is how many connections to a port of IPv4 a process has taken.
func served(t testing.TB, pid int, port string) (n int) {
	t.Helper()
	own := socketsOf(t, pid)
	number, err := strconv.Atoi(port)
	must(t, err)
	local := fmt.Sprintf(":%04X", number)
	for line := range strings.Lines(string(readAll(t, fmt.Sprintf("/proc/%d/net/tcp", pid)))) {
		if f := strings.Fields(line); len(f) > 9 && own[f[9]] && f[3] != "0A" && strings.HasSuffix(f[1], local) {
			n++
		}
	}
	return n
}

// socketsOf are the inodes of the sockets that a process has open.
func socketsOf(t testing.TB, pid int) map[string]bool {
	t.Helper()
	own := map[string]bool{}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		t.Fatalf("no descriptors of %d: %v", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:[") {
			own[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	return own
}
