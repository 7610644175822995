// Command vmcastfs mounts a VMcast feed as a filesystem of releases.
//
// It answers to three names and forms: `vmcastfs COMMAND …`, `mount.vmcastfs
// FEED DIR [-sfnv] [-o OPTIONS]` as mount(8) calls its helpers, and `vmcastfs
// FEED DIR -o OPTIONS` as mount.fuse3 calls the binary for `mount -t
// fuse.vmcastfs`.
//
// Data goes to stdout, everything else to stderr; a failure is one line
// "vmcastfs: what, where: why" and, where there is one, a hint. The exit codes
// are in exit.go.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, func() {
		if !starting() { // then Ctrl-C comes from the terminal and from the first process
			stop() // a second signal ends the process at once
		}
	})
	code := run(ctx, os.Args, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	e := &env{stdout: stdout, stderr: stderr}
	name := "vmcastfs"
	var err error
	switch {
	case filepath.Base(args[0]) == "mount.vmcastfs" && !starting(): // a copy of it starts itself in the background
		name = "mount.vmcastfs"
		err = e.mountHelper(ctx, args[1:])
	case calledByMountFuse(args[1:]):
		err = e.mountHelper(ctx, args[1:])
	default:
		root := rootCommand(e)
		root.SetArgs(args[1:])
		root.SetOut(stdout)
		root.SetErr(stderr)
		err = root.ExecuteContext(ctx)
	}
	if err = interrupted(ctx, err); err != nil {
		if msg := err.Error(); msg != "" {
			fmt.Fprintf(stderr, "%s: %s\n", name, plainText(msg))
		}
	}
	return codeOf(err)
}

// calledByMountFuse recognises `vmcastfs FEED DIR …`: a first word that can
// only be a feed.
func calledByMountFuse(args []string) bool {
	return len(args) >= 2 && (strings.Contains(args[0], "://") || filepath.IsAbs(args[0]))
}

// env is what every command gets.
type env struct {
	stdout, stderr io.Writer
}
