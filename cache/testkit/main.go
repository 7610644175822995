package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// reaperEnv names the directory to a process that cleans up behind the tests.
const reaperEnv = "VMCASTFS_TEST_REAPER"

// Main runs the tests of a package that mounts or starts programs: prepare, and
// then the tests. Their temporary directories lie in one directory, which a
// second process empties when this one ends, however it ends: it kills the
// programs that run from there or were told of it, unmounts and removes all. So
// tests that time out leave nothing. If a mount is left by tests that passed,
// or a program that lies there, or a program had a data race, Main says so and fails.
func Main(m *testing.M, prepare func() error) (code int) {
	if dir := os.Getenv(reaperEnv); dir != "" {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the tests have ended
		cleanUp(dir)
		return 0
	}
	dir, err := os.MkdirTemp("", "vmt")
	if err == nil {
		// Tests run programs as other users. What the race detector finds in daemons, whose output
		// nobody reads, goes into files; without a sleep each command takes a second less.
		err = errors.Join(os.Chmod(dir, 0o711), os.Setenv("TMPDIR", dir),
			os.Setenv("GORACE", "atexit_sleep_ms=0 log_path="+filepath.Join(dir, "race")+" "+os.Getenv("GORACE")))
	}
	var wait func()
	if err == nil {
		wait, err = startReaper(dir)
	}
	if err == nil {
		defer wait()
		err = prepare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "before the tests:", err)
		return 1
	}
	code = m.Run()
	left := mountsBelow(dir)
	for _, p := range processesOf(dir) {
		if strings.HasPrefix(p.exe, dir) {
			left = append(left, p.line)
		}
	}
	if len(left) > 0 && code == 0 {
		fmt.Fprintf(os.Stderr, "the tests leave\n  %s\n", strings.Join(left, "\n  "))
		code = 1
	}
	races, _ := filepath.Glob(filepath.Join(dir, "race.*"))
	for _, path := range races {
		report, _ := os.ReadFile(path)
		fmt.Fprintf(os.Stderr, "a race in a program that the tests started:\n%s\n", report)
		code = 1
	}
	return code
}

// startReaper starts the process that cleans up when this one ends. wait ends it
// before.
func startReaper(dir string) (wait func(), err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), reaperEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // what ends the tests does not end it
	pipe, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return func() { pipe.Close(); _ = cmd.Wait() }, cmd.Start()
}

func cleanUp(dir string) {
	for range 3 { // what is killed may just have started something
		for _, p := range processesOf(dir) {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		for _, path := range mountsBelow(dir) {
			_ = unix.Unmount(path, unix.MNT_DETACH)
		}
	}
	_ = os.RemoveAll(dir)
}

// mountsBelow are the mount points below dir, the last mounted first.
func mountsBelow(dir string) (paths []string) {
	mounts, _ := mountinfo.GetMounts(mountinfo.PrefixFilter(dir))
	for _, m := range slices.Backward(mounts) {
		paths = append(paths, m.Mountpoint)
	}
	return paths
}

type process struct {
	pid       int
	exe, line string
}

// processesOf are the other processes whose program lies below dir, or that
// have it in their command line.
func processesOf(dir string) (found []process) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, proc := range procs {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err != nil || pid == os.Getpid() {
			continue
		}
		exe, _ := os.Readlink(proc + "/exe")
		line, _ := os.ReadFile(proc + "/cmdline")
		if strings.HasPrefix(exe, dir+"/") || bytes.Contains(line, []byte(dir+"/")) {
			found = append(found, process{pid, exe, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '}))})
		}
	}
	return found
}
