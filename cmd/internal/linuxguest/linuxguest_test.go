package linuxguest

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// TestGuestKnowsRightFromWrong boots the guest from local files: a guest that
// could not fail would prove nothing about a mount.
func TestGuestKnowsRightFromWrong(t *testing.T) {
	deb := KernelPackage(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	g, err := Build(ctx, t.TempDir(), deb, 64)
	if err != nil {
		t.Fatal(err)
	}
	out, err := g.Boot(ctx, "format=raw,readonly=on,file="+g.Root)
	if err != nil || !strings.Contains(out, OKLine) {
		t.Fatalf("good root: %v\n%s", err, out)
	}
	disk, err := os.ReadFile(g.Root)
	if err != nil {
		t.Fatal(err)
	}
	// Flip a bit in the middle of one of the files.
	content, err := os.ReadFile(strings.TrimSuffix(g.Root, ".img") + "/data/07")
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(disk), string(content[:4096]))
	if at < 0 {
		t.Fatal("the file is not in the image in one piece")
	}
	disk[at+100] ^= 4
	if err := os.WriteFile(g.Root, disk, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = g.Boot(ctx, "format=raw,readonly=on,file="+g.Root)
	if err != nil || !strings.Contains(out, BadLine) {
		t.Fatalf("flipped bit: %v\n%s", err, out)
	}
}
