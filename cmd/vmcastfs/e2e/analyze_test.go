package e2e

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
)

// TestAnalyze: the last boot is drawn from a live mount, after the mount has ended from
// the cache, and after another mount, which adds nothing of its own.
func TestAnalyze(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{DiskSize: 16 << 20, Packed: true})
	socket := filepath.Join(t.TempDir(), "page")
	w.mount("complete=off", "http=unix:"+socket)
	f, err := os.Open(w.path("latest", appliance.DiskName))
	if err != nil {
		t.Fatal(err)
	}
	w.bootLike()
	sentence := func(name string, args ...string) string {
		t.Helper()
		out, err := w.run(append([]string{"analyze"}, args...)...)
		if err != nil || !strings.HasPrefix(out, "<svg ") && !strings.HasPrefix(out, "<!DOCTYPE html>") {
			t.Fatalf("%s: %v, %.300s", name, err, out)
		}
		_, desc, _ := strings.Cut(out, "<desc>This boot ")
		desc, _, _ = strings.Cut(desc, " Every block was checked before it was served.")
		if !strings.Contains(desc, " of 16 MiB ") || strings.Count(out, `class="waits" d="M`) != 1 {
			t.Errorf("%s: %s", name, out[:min(len(out), 1500)])
		}
		return desc
	}
	image := w.path("latest", appliance.DiskName)
	if live := sentence("live", image); !strings.HasPrefix(live, "has waited so far ") {
		t.Errorf("while it boots: %s", live)
	}
	w.tryUI(socket)
	f.Close()
	w.umount()
	kept := sentence("from the cache", "--cache", w.cache, "demo-1.1/disk.img")
	if out, err := w.run("analyze", "--cache", w.cache, "demo-9/disk.img"); exitCode(err) != exitFailed || !strings.Contains(out, "no cached file") {
		t.Errorf("an image that is not cached: %v, %s", err, out)
	}
	w.mount("complete=off")
	_, _ = exec.Command("head", "-c", "4096", image).Output() // a look is no boot
	if again := sentence("after a remount", "--html", w.path("latest")); again != kept {
		t.Errorf("after a remount: %s\nwant %s", again, kept)
	}
	if out, err := w.run("ui", w.dir); exitCode(err) != exitFailed || !strings.Contains(out, "-o http=") {
		t.Errorf("a mount without a page: %v, %s", err, out)
	}
	for _, arg := range []string{w.dir, w.path("feed.xml"), w.path("latest", "manifest.txt"), w.path("none")} {
		if out, err := w.run("analyze", arg); exitCode(err) != exitFailed || strings.Contains(out, "<svg") {
			t.Errorf("analyze %s: %v, %s", arg, err, out)
		}
	}
}

// tryUI has `ui` serve the page of a socket to one browser.
func (w *world) tryUI(socket string) {
	w.t.Helper()
	cmd := exec.Command(binary, "ui", w.dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		w.t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	plain, _, _ := strings.Cut(address, "?")
	get := func(c *http.Client, address string) (int, string) {
		w.t.Helper()
		resp, err := c.Get(address)
		if err != nil {
			w.t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		return resp.StatusCode, string(raw)
	}
	first, second := &http.Client{Timeout: 30 * time.Second}, &http.Client{Timeout: 30 * time.Second}
	first.Jar, _ = cookiejar.New(nil)
	second.Jar, _ = cookiejar.New(nil)
	if code, _ := get(second, plain); code != http.StatusForbidden {
		w.t.Errorf("without the token: %d", code)
	}
	if code, page := get(first, address); code != http.StatusOK || !strings.Contains(page, "demo-1.1") {
		w.t.Errorf("with the token: %d, %.200s", code, page)
	}
	if code, _ := get(second, address); code != http.StatusForbidden {
		w.t.Errorf("the token counts twice: %d", code)
	}
	if code, text := get(first, plain+"metrics"); code != http.StatusOK || !strings.Contains(text, "vmcastfs_build_info") {
		w.t.Errorf("the metrics: %d", code)
	}
	resp, err := first.Get(plain + "live")
	if err != nil {
		w.t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "event: part\n" {
		w.t.Errorf("the events: %q, %v", line, err)
	}
	resp.Body.Close()
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		w.t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		w.t.Errorf("at Ctrl-C: %v", err)
	}
}
