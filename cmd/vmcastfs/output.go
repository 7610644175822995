package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"
)

// newOutput begins the file that a command makes, which takes the place of what
// is at path when it is finished: of a file only, and of none that it is made of.
func newOutput(path string, inputs ...string) (*renameio.PendingFile, error) {
	if path == "-" {
		return nil, usagef("-o -: there must be a file to write to; one of that name is ./-")
	}
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, withCode(exitSystem, err)
	case !info.Mode().IsRegular():
		return nil, usagef("-o %s: it is no regular file", path)
	default:
		for _, input := range inputs {
			if in, err := os.Stat(input); err == nil && os.SameFile(info, in) {
				return nil, usagef("-o %s: it is one of the inputs", path)
			}
		}
	}
	sweepOutput(path)
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("write %s: %w", path, err))
	}
	_ = unix.Flock(int(out.Fd()), unix.LOCK_EX|unix.LOCK_NB) // for sweepOutput; the file is ours alone
	return out, nil
}

// sweepOutput removes what killed commands left of a file that they made.
func sweepOutput(path string) {
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"[0-9]*"))
	for _, name := range left {
		if strings.Trim(strings.TrimPrefix(filepath.Base(name), "."+filepath.Base(path)), "0123456789") != "" {
			continue
		}
		f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			continue
		}
		if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			_ = os.Remove(name)
		}
		f.Close()
	}
}
