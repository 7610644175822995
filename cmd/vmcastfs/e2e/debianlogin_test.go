package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestDebianLogin boots a Debian to its login prompt from a mount that has prewarmed
// the newest release, over a link of 30 ms and 100 Mbit/s, and in turn from local files.
// The ratio of the times is measured three times; its median counts. It is a long test.
func TestDebianLogin(t *testing.T) {
	if os.Getenv("VMCASTFS_TEST_LONG") == "" {
		t.Skip("a long form: VMCASTFS_TEST_LONG is not set")
	}
	for _, tool := range []string{"qemu-system-x86_64", "gpg"} {
		testkit.Need(t, tool)
	}
	d, g := findDebian(t), newGnuPG(t)
	g.key("publisher", "ed25519", "never")
	w := bareWorld(t)
	w.opts = []string{"sig=require", "keyring=" + g.ring("publisher"), "cache_size=20G", "complete=off"}
	config := func(release string) string { return stdout(t, "config", "qemu", "--accel", "tcg", w.path(release)) }

	// The publisher records a boot.
	w.publishFile("first", d.packOwn(t, g, ""))
	w.mount()
	bootToLogin(t, config("first"))
	profile := filepath.Join(t.TempDir(), "profile")
	must(t, os.WriteFile(profile, []byte(stdout(t, "profile", "export", w.path("first/root.img"))), 0o600))
	here := t.TempDir()
	for _, name := range []string{"disk.img", "vmlinuz", "initrd.img"} {
		if out, err := command(t, here, "cp", "--sparse=always", w.path("first", name), "."); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	w.umount()
	w.publishFile("second", d.packOwn(t, g, profile))
	w.cache = t.TempDir() // of another host
	w.origin.SetLatency(30 * time.Millisecond)
	w.origin.SetBandwidth(100e6 / 8)
	w.mount("prewarm=boot")
	var warm string
	testkit.Eventually(t, "the newest release is warm", 2*time.Minute, func() bool {
		if p := w.release("second").Prewarm; p != nil {
			warm = p.State
		}
		return warm != "" && warm != "fetching"
	})
	if warm != "done" {
		t.Fatalf("prewarm: %s", warm)
	}
	mounted := config("second")
	local := strings.ReplaceAll(mounted, w.path("second"), here)
	sent := func() int64 { return w.origin.Stats("/second.xvm").BytesSent }
	before := sent()
	t.Logf("%.1f MB were fetched beforehand", float64(before)/1e6)
	var ratios []float64
	for range 3 {
		first := bootToLogin(t, local)
		second := bootToLogin(t, mounted)
		ratios = append(ratios, second.Seconds()/first.Seconds())
		t.Logf("login after %.1f s locally, %.1f s prewarmed, ratio %.3f; %d bytes were fetched since", first.Seconds(), second.Seconds(), ratios[len(ratios)-1], sent()-before)
	}
	if slices.Sort(ratios); ratios[1] > 1.05 {
		t.Errorf("the median of %v is above 1.05", ratios)
	}
}
