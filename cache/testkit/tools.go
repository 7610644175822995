package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// Need finds a program. Without it the test is left out; in CI (CI=true) it fails.
func Need(t testing.TB, tool string) string {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		Missing(t, tool)
	}
	return path
}

// Missing leaves the test out, as something is not there that it needs; in CI it fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing", what)
}
