package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

// onTerminal runs the binary with a terminal of 80 columns as its standard
// error, and returns what it wrote to that and to its standard output.
func onTerminal(t testing.TB, args ...string) (screen, stdout string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, slave
	shown := make(chan []byte)
	go func() {
		p, _ := io.ReadAll(master) // EIO when the last of the other side is closed
		shown <- p
	}()
	err = cmd.Run()
	slave.Close()
	text := string(<-shown)
	if err != nil {
		t.Errorf("vmcastfs %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	return text, out.String()
}

// bytesOfAll is how much of how much, in a bar.
var bytesOfAll = regexp.MustCompile(`\([0-9.]+/[0-9.]+ [MK]iB, [0-9.]+ [KMG]?i?B/s\)|\([0-9.]+ [KM]?i?B/[0-9.]+ [MK]iB, `)

// TestProgress: work that takes a while shows a bar on a terminal, within its
// width, and takes it away at the end; elsewhere it shows nothing.
func TestProgress(t *testing.T) {
	w := bareWorld(t)
	dir := t.TempDir()
	about, image, out := filepath.Join(dir, "xvm.xml"), filepath.Join(dir, "root.img"), filepath.Join(dir, "one.xvm")
	disk := noise(16<<20, 1)
	for name, content := range map[string][]byte{about: []byte("<xvm/>"), image: disk} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pack := []string{"pack", "--level", "9", "-o", out, about, image}
	check := func(label string, args ...string) {
		t.Helper()
		screen, stdout := onTerminal(t, args...)
		// What clears a line takes no room.
		frames := strings.Split(strings.NewReplacer("\x1b[0K", "", "\x1b[2K", "").Replace(screen), "\r")
		drawn := 0
		for _, frame := range frames {
			if strings.HasPrefix(frame, label) && strings.Contains(frame, "% |") && bytesOfAll.MatchString(frame) {
				drawn++
			}
			if n := len([]rune(strings.Trim(frame, "\n"))); n > 80 {
				t.Errorf("%s: %d columns: %q", args[0], n, frame)
			}
			if strings.Contains(frame, "TiB/s") {
				t.Errorf("%s: a rate of nothing: %q", args[0], frame)
			}
		}
		if drawn == 0 || strings.Trim(frames[len(frames)-1], " \n") != "" || strings.Contains(stdout, "\r") {
			t.Errorf("%s: %d bars, at the end %q; on standard output %q", args[0], drawn, frames[len(frames)-1], stdout)
		}
	}
	quiet := func(args ...string) {
		t.Helper()
		if text, err := runBinary(t, args...); err != nil || strings.Contains(text, "\r") || strings.Contains(text, "% |") {
			t.Errorf("%s: %v, %q", args[0], err, text)
		}
	}
	check("packing", pack...)
	quiet(pack...)
	w.publish("one", readAll(t, out))
	w.origin.SetBandwidth(32 << 20)
	address := w.origin.URL() + "/one.xvm"
	check("checking", "verify", address)
	quiet("verify", address)
	w.mount("complete=off")
	check("one/root.img", "prefetch", w.path("one", "root.img"))
	quiet("prefetch", w.path("one", "root.img"))
	testkit.Eventually(t, "it is verified", time.Minute, func() bool { return attr(w.path("one", "root.img"), "state") == "verified" })
}
