package fs

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/fs/catalog"
	"vmcastfs/fs/internal/fusetest"
)

// A mount that has taken a request and does not answer it is told from one that
// does, and what looked can still be killed.
func TestAnswers(t *testing.T) {
	fusetest.Require(t)
	dir := t.TempDir()
	cmd := fusetest.Child(t.Context(), "hung", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // ends the connection, whatever waits for it
		_ = unix.Unmount(dir, unix.MNT_FORCE)
		_ = CleanStale(dir)
	})
	said := bufio.NewScanner(out)
	for _, want := range []string{"answers: true", "answers when covered: true", "answers when hung: false"} {
		if !said.Scan() || said.Text() != want {
			t.Fatalf("it says %q, want %q", said.Text(), want)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("it cannot be killed")
	}
	if !IsStale(dir) {
		t.Error("its mount is not dead")
	}
}

// childHung looks at its mount while that answers, while another covers it, and
// while it hangs, and then waits to be killed.
func childHung(args []string) error {
	dir, err := os.MkdirTemp("", "hung")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	tree, err := openTree(dir)
	if err != nil {
		return err
	}
	var hung atomic.Bool
	s, err := Mount(context.Background(), tree.Catalog, Options{Dir: args[0], Source: "hung", reach: reach{
		all: func(s *catalog.Snapshot) []*catalog.Release {
			if hung.Load() {
				select {}
			}
			return s.All()
		},
	}})
	if err != nil {
		return err
	}
	answers := func(limit time.Duration) bool {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return s.Answers(ctx)
	}
	alive := true
	for range 300 { // from all threads, the first as well
		alive = answers(time.Minute) && alive
	}
	f, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(fmt.Sprintf("/proc/self/fd/%d", f.Fd())); err != nil {
		return fmt.Errorf("the first thread has descriptors of its own: %w", err)
	}
	fmt.Printf("answers: %t\n", alive)
	over, err := Mount(context.Background(), tree.Catalog, Options{Dir: args[0], Source: "over"})
	if err != nil {
		return err
	}
	hung.Store(true) // now each statfs waits
	fmt.Printf("answers when covered: %t\n", answers(time.Minute))
	if err := over.Unmount(context.Background(), false); err != nil {
		return err
	}
	fmt.Printf("answers when hung: %t\n", answers(300*time.Millisecond))
	select {}
}
