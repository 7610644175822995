package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"
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
	out, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644))
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("write %s: %w", path, err))
	}
	return out, nil
}
