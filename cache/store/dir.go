package store

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

// openDir opens the cache directory itself: makes it, or checks that it is ours and is a cache.
func openDir(path string) (privdir.Dir, error) {
	d, err := privdir.Open(path, privdir.Make|privdir.Follow, "version", "lock", "CACHEDIR.TAG", "files", "docs")
	if err != nil {
		return d, fmt.Errorf("cache directory %q: %w", path, err)
	}
	return d, nil
}

// checkVersion reads the version file, or writes it in a new directory. The caller holds lockSetup.
func checkVersion(d privdir.Dir) error {
	f, err := d.OpenFile("version", unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		for _, x := range [][2]string{{"CACHEDIR.TAG", tagText}, {"version", versionLine}} {
			if err := d.Write(x[0], []byte(x[1])); err != nil {
				return err
			}
		}
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 64)
	n, err := f.ReadAt(b, 0)
	if n == 0 && err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if string(b[:n]) != versionLine {
		return fmt.Errorf("its version file says %q: %w; use the program that wrote it, or another directory", strings.TrimSpace(string(b[:n])), ErrFormat)
	}
	return nil
}
