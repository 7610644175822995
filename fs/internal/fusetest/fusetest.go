// Package fusetest helps tests that mount for real.
//
// A process must not map, execute or chdir into what it serves itself: the Go
// scheduler does not know that a page fault may wait for another goroutine. Such
// things are done by child processes, which are this test binary once more.
package fusetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vmcastfs/cache/testkit"
)

const childVar = "VMCASTFS_TEST_CHILD"

// Require skips the test if nothing can be mounted here; under CI=true it fails.
func Require(t testing.TB) {
	t.Helper()
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		Missing(t, "cannot mount: %v", err)
	}
	f.Close()
	if os.Geteuid() != 0 {
		Tool(t, "fusermount3")
	}
}

// Tool finds a program, or skips the test as Require does.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "%v", err)
	}
	return path
}

// Root skips the test for ordinary users, as Require does.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Missing(t, "needs root")
	}
}

// Missing skips the test, or fails it under CI=true.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// NoLeaks fails the test if, after all later cleanups, it leaves a goroutine or
// a file descriptor behind.
func NoLeaks(t testing.TB) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	before := descriptors()
	t.Cleanup(func() {
		testkit.Settle(ignore)
		goleak.VerifyNone(t, ignore)
		var left []string
		for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			left = more(before, descriptors())
			if len(left) == 0 {
				return
			}
		}
		t.Errorf("descriptors left open: %q", left)
	})
}

// descriptors lists what this process has open, less the runtime's own.
func descriptors() []string {
	var open []string
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil || strings.HasPrefix(target, "anon_inode:") || strings.HasSuffix(target, "/fd") {
			continue
		}
		open = append(open, target)
	}
	slices.Sort(open)
	return open
}

// more is b without a, as multisets.
func more(a, b []string) []string {
	count := make(map[string]int)
	for _, s := range a {
		count[s]++
	}
	var rest []string
	for _, s := range b {
		if count[s]--; count[s] < 0 {
			rest = append(rest, s)
		}
	}
	return rest
}

// Main runs the tests, or the child function that Child asked for, and returns
// the exit status for TestMain.
func Main(m *testing.M, children map[string]func(args []string) error) int {
	name, child := os.LookupEnv(childVar)
	if !child {
		return testkit.Main(m, func() error { return nil })
	}
	do, known := children[name]
	if !known {
		fmt.Fprintf(os.Stderr, "no child function %q\n", name)
		return 2
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// Child is a command that runs one of Main's child functions.
func Child(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	return cmd
}

// Run runs a command to its end, at most for a while, and returns its output.
func Run(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return string(out)
}
