package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"vmcastfs/feed/show"
)

// hookName is what run-parts(8) would run.
var hookName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]*$`)

func (h *hooks) programs() []string {
	var list []string
	if h.program != "" {
		list = append(list, h.program)
	}
	if h.dir == "" {
		return list
	}
	entries, err := os.ReadDir(h.dir) // sorted
	if err != nil {
		h.log.Error("no hooks", "err", err)
	}
	for _, entry := range entries {
		if !hookName.MatchString(entry.Name()) || strings.Contains(entry.Name(), ".dpkg-") {
			continue
		}
		path := filepath.Join(h.dir, entry.Name())
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			list = append(list, path)
		}
	}
	return list
}

// safeHook refuses a program that another user could have put there.
func safeHook(path string) error {
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
			return fmt.Errorf("%s belongs to another user (%d)", p, st.Uid)
		}
		if info.Mode()&0o022 != 0 && !(info.IsDir() && info.Mode()&os.ModeSticky != 0) {
			return fmt.Errorf("%s can be written to by others (mode %#o)", p, info.Mode().Perm())
		}
	}
	return nil
}

// exec runs a program, without a shell; what the feed says is only ever in the
// environment.
func (h *hooks) exec(ctx context.Context, program string, e event) error {
	if err := safeHook(program); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, hookLimit, fmt.Errorf("it took more than %s", hookLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, program, e.kind)
	cmd.Dir = "/"
	cmd.Env = h.environment(e)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // its children too
	cmd.WaitDelay = time.Second
	out, in, err := os.Pipe()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err != nil {
		out.Close()
		return err
	}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		h.copy(program, out)
	}()
	err = cmd.Wait()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	select { // a child may have kept the pipe
	case <-copied:
	case <-time.After(cmd.WaitDelay):
	}
	out.Close()
	<-copied
	return err
}

// copy puts the output into the log, line by line.
func (h *hooks) copy(program string, out io.Reader) {
	lines := bufio.NewScanner(io.LimitReader(out, hookOutput))
	for lines.Scan() {
		if line := show.Text(lines.Text()); line != "" {
			h.log.Info("hook says", "hook", program, "line", line)
		}
	}
	_, _ = io.Copy(io.Discard, out) // so that it does not wait for us
}

// environment has the facts, and nothing of ours.
func (h *hooks) environment(e event) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}
	for _, v := range [][2]string{
		{"EVENT", e.kind}, {"FEED", string(scrub([]byte(h.feed)))}, {"DIR", h.mount},
		{"RELEASE", e.name}, {"TITLE", show.Text(e.release.Title)}, {"PUBLISHED", e.release.Published},
		{"URL", string(scrub([]byte(e.release.URL)))}, {"PATH", filepath.Join(h.mount, e.name, e.file)},
		{"FILE", e.file}, {"MIRROR", e.mirror}, {"REASON", show.Text(e.reason)},
	} {
		env = append(env, "VMCASTFS_"+v[0]+"="+v[1])
	}
	return env
}
