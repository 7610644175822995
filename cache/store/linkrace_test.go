package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

// TestL2SwappedDirectory: who owns the directory above the cache's puts a link to somewhere else in its place, again
// and again, while it is opened. Nothing is ever made there.
func TestL2SwappedDirectory(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root, and another user")
	}
	const nobody = 65534
	parent, victim := t.TempDir(), t.TempDir()
	cache, link, away := filepath.Join(parent, "cache"), filepath.Join(parent, "link"), filepath.Join(parent, "away")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if err := os.Lchown(link, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(away, 0o700); err != nil {
		t.Fatal(err)
	}
	stop, ended := make(chan struct{}), make(chan struct{})
	swaps := 0
	go func() {
		defer close(ended)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			// As soon as it has been made it is moved away, and the link is there instead.
			if i%8 == 0 || os.Rename(cache, filepath.Join(away, fmt.Sprint(i))) != nil {
				runtime.Gosched()
				continue
			}
			if os.Rename(link, cache) == nil {
				swaps++
				runtime.Gosched()
				_ = os.Rename(cache, link)
			}
		}
	}()
	opened, refused := 0, 0
	for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
		s, err := Open(Options{Dir: cache})
		if err != nil {
			refused++
			continue
		}
		opened++
		_ = s.Close()
	}
	close(stop)
	<-ended
	if entries, err := os.ReadDir(victim); err != nil || len(entries) > 0 {
		t.Fatalf("in the directory that the link leads to: %v, %v", entries, err)
	}
	t.Logf("%d times opened, %d times refused, %d swaps", opened, refused, swaps)
	if opened+refused == 0 {
		t.Error("it was never opened")
	}
}
