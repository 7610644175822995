package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/chrometest"
)

// TestScreenshot makes the picture of the manual, at VMCASTFS_SCREENSHOT: of a Debian
// that QEMU boots, by the profile of an earlier boot, with a part of the release
// before it in the cache. `bash .ci/screenshot` runs it.
func TestScreenshot(t *testing.T) {
	to := os.Getenv("VMCASTFS_SCREENSHOT")
	if to == "" {
		t.Skip("a long form: VMCASTFS_SCREENSHOT names no file")
	}
	debian := os.Getenv("VMCASTFS_TEST_DEBIAN")
	if debian == "" {
		testkit.Missing(t, "VMCASTFS_TEST_DEBIAN, the directory of a Debian")
	}
	w, dir := bareWorld(t), t.TempDir()
	image := filepath.Join(dir, "root.img")
	if out, err := runProgram(t, "cp", filepath.Join(debian, "root.img"), image); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	description := filepath.Join(dir, "xvm.xml")
	if err := os.WriteFile(description, []byte(`<xvm><name>debian</name><disk file="root.img" target="vda"/></xvm>`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"debian-12.4", "debian-12.5"} {
		file := filepath.Join(dir, name+".xvm")
		if out, err := runBinary(t, "pack", "-o", file, description, image); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.publish(name, readAll(t, file))
		if out, err := runProgram(t, "debugfs", "-w", "-R", "write "+description+" next", image); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	boot := func() {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot",
			"-kernel", filepath.Join(debian, "vmlinuz"), "-initrd", filepath.Join(debian, "initrd.img"), "-append", "root=/dev/vda ro console=ttyS0 quiet panic=-1 no_timer_check",
			"-drive", "format=raw,if=virtio,snapshot=on,file="+w.path("debian-12.5", "root.img"))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		said, p := []byte(nil), make([]byte, 4096)
		for !bytes.Contains(said, []byte(" login:")) {
			n, err := out.Read(p)
			if said = append(said, p[:n]...); err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
		}
		cancel()
		_ = cmd.Wait() // it was killed
	}
	w.origin.SetLatency(20 * time.Millisecond)
	w.origin.SetBandwidth(12_500_000)
	w.mount("complete=off")
	boot()
	profile, err := w.run("profile", "export", w.path("debian-12.5", "root.img"))
	if err != nil || !strings.Contains(profile, "root.img") {
		t.Fatalf("%v: %s", err, profile)
	}
	w.umount()
	recorded := filepath.Join(dir, "profile")
	if err := os.WriteFile(recorded, []byte(profile), 0o600); err != nil {
		t.Fatal(err)
	}
	w.cache = t.TempDir()
	address := "127.0.0.1:" + freePort(t)
	w.mount("http="+address, "profile="+recorded, "complete=off")
	if out, err := runProgram(t, "dd", "if="+w.path("debian-12.4", "root.img"), "of=/dev/null", "bs=1M", "count=120"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	p := chrometest.New(t)
	p.Size(1280, 712, false)
	p.Open("http://" + address + "/?image=debian-12.5/root.img")
	boot()
	testkit.Eventually(t, "the boot is shown", time.Minute, func() bool {
		return strings.Contains(p.Eval(`document.querySelector("#hero .sentence")?.innerText || ""`), "This boot waited")
	})
	p.Eval(`document.querySelector("h1").lastChild.data = " /srv/vmcast"`) // the place is that of a test
	p.Eval(`document.querySelector("#top .muted").textContent = "https://example.org/vmcast.xml"`)
	t.Log(p.Eval(`document.querySelector("#hero .sentence").innerText`))
	if err := os.WriteFile(to, p.Screenshot(false), 0o644); err != nil {
		t.Fatal(err)
	}
}
