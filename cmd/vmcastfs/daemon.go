package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A mount in the background is a second process: the same binary, started
// with readyFD open for writing. It mounts in the foreground and writes one
// report there once the root answers, or when it has failed; the first process
// waits for that report and ends with it. Until then both are in one process
// group: by it autofs and systemd's automount know who may pass the directory
// that all others wait for. What a terminal sends, both get.
const (
	readyEnv = "VMCASTFS_READY_FD"
	readyFD  = 3
)

// report is what the background process says.
type report struct {
	Code int    `json:"code"`
	Err  string `json:"error,omitempty"`
}

// startDaemon runs `vmcastfs ARGS…` in the background and waits for its
// report. If ctx ends before, the process is told to stop.
func startDaemon(ctx context.Context, args []string) error {
	self, err := os.Executable()
	if err != nil {
		return withCode(exitSystem, fmt.Errorf("find this program to start it in the background: %w", err))
	}
	r, w, err := os.Pipe()
	if err != nil {
		return withCode(exitSystem, err)
	}
	defer r.Close()
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d", readyEnv, readyFD))
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stdout = os.Stderr
	cmd.Stderr = os.Stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		return withCode(exitSystem, fmt.Errorf("start in the background: %w", err))
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	defer stop()

	var rep report
	if err := json.NewDecoder(r).Decode(&rep); err != nil {
		werr := cmd.Wait()
		if ctx.Err() != nil {
			return withCode(exitInterrupted, errors.New("interrupted"))
		}
		return withCode(exitInternal, fmt.Errorf("the background process ended without a word: %v", werr))
	}
	if rep.Code != exitOK {
		_ = cmd.Wait() // it cleans up and ends
		return &exitError{rep.Code, errors.New(rep.Err)}
	}
	return cmd.Process.Release()
}

// readiness tells the process in the foreground, if there is one, how the
// mount went.
type readiness struct{ w io.WriteCloser }

// inheritReadiness finds the pipe that startDaemon left open.
func inheritReadiness() *readiness {
	if !starting() {
		return &readiness{}
	}
	syscall.CloseOnExec(readyFD)
	return &readiness{w: os.NewFile(readyFD, "ready")}
}

// starting tells whether this is the background process, before its report.
func starting() bool { return os.Getenv(readyEnv) != "" }

// daemon tells whether this is the background process.
func (r *readiness) daemon() bool { return r.w != nil }

// tell sends the report, if somebody waits for it; only the first call does
// anything. told: the other process says what is to be said.
func (r *readiness) tell(err error) (told bool) {
	if r.w == nil {
		return false
	}
	rep := report{Code: codeOf(err)}
	if err != nil {
		rep.Err = err.Error()
	}
	told = json.NewEncoder(r.w).Encode(rep) == nil
	r.w.Close()
	r.w = nil
	os.Unsetenv(readyEnv)
	return told
}
