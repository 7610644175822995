package testkit

import (
	"fmt"
	"os"
	"os/exec"
)

// Build builds a program of this module as it is shipped: it needs no library of the
// host, and has no symbols. So the hosts that are emulated run it too.
func Build(path, pkg string) error { return build("0", "build", "-ldflags=-s -w", "-o", path, pkg) }

// BuildTest builds the test program of a package in the same way.
func BuildTest(path, pkg string) error {
	return build("0", "test", "-c", "-ldflags=-s -w", "-o", path, pkg)
}

// BuildRace builds a program with the race detector.
func BuildRace(path, pkg string) error { return build("1", "build", "-race", "-o", path, pkg) }

func build(cgo string, args ...string) error {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %q: %w\n%s", args, err, out)
	}
	return nil
}
