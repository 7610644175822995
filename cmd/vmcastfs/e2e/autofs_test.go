package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// automount(8) mounts a feed at its first use, by a line as the manual has it,
// takes it away when it is idle, and mounts it again.
func TestAutofs(t *testing.T) {
	t.Parallel()
	automount := testkit.Need(t, "automount")
	w := newWorld(t, appliance.Options{})
	h := newHost(t)
	auto := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(h.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	line := strings.TrimSpace(distFile(t, "example.autofs"))
	line = strings.Replace(line, ",ro ", ",ro,"+w.options()+" ", 1)
	line = strings.Replace(line, `https\://example.org/vmcast.xml`, strings.Replace(w.feed, ":", `\:`, 1), 1)
	master := write("master", auto+" file:"+write("map", line+"\n")+" --timeout=1\n")

	cmd := exec.Command("nsenter", "-m", "-t", fmt.Sprint(h.pid), automount, "--foreground", "--verbose", "--dont-check-daemon", "--pid-file", h.dir+"/pid", master)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it unmounts what it has mounted
		select {
		case <-ended:
		case <-time.After(5 * time.Minute):
			_ = cmd.Process.Kill()
			<-ended
			t.Error("automount does not end")
		}
		if t.Failed() {
			t.Logf("automount said:\n%s", log.Bytes())
		}
	})
	testkit.Eventually(t, "automount waits", time.Minute, func() bool {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", h.pid))
		return strings.Contains(string(raw), " "+auto+" autofs ")
	})
	dir := filepath.Join(auto, strings.Fields(line)[0])
	for range 2 {
		out, code := h.command(nil, "/usr/bin/cmp", dir+"/latest/data.img", h.dataFile(w))
		if got := h.mounts(); code != 0 || len(got) != 1 || got[0] != dir {
			t.Fatalf("%s; mounted are %q", out, got)
		}
		testkit.Eventually(t, "the idle mount is gone", time.Minute, func() bool { return len(h.mounts()) == 0 })
	}
}

// dataFile is the data disk as published, in a file.
func (h *host) dataFile(w *world) string {
	h.t.Helper()
	path := filepath.Join(h.dir, "data")
	if err := os.WriteFile(path, w.app.Data, 0o644); err != nil {
		h.t.Fatal(err)
	}
	return path
}
