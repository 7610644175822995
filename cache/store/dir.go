package store

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

// openDir opens the cache directory itself: makes it, or checks that it is ours and is a cache.
func openDir(path string) (privdir.Dir, error) {
	d, err := privdir.Open(path, privdir.Make|privdir.Follow)
	if err != nil {
		return d, fmt.Errorf("cache directory %q: %w", path, err)
	}
	names, err := d.Names()
	if err == nil && !slices.Contains(names, "version") {
		ours := []string{"lost+found", "lock", "version", "CACHEDIR.TAG", "files", "docs"}
		for _, n := range names {
			if !slices.Contains(ours, n) && !strings.HasPrefix(n, privdir.TempPrefix) {
				err = fmt.Errorf("it is not a cache and not empty (it holds %q)", n)
			}
		}
	}
	if err != nil {
		d.Close()
		return d, fmt.Errorf("cache directory %q: %w", path, err)
	}
	return d, nil
}

// checkVersion reads the version file, or writes it in a new directory. The caller holds lockSetup.
func checkVersion(d privdir.Dir) error {
	f, err := d.OpenFile("version", unix.O_RDONLY)
	if errors.Is(err, fs.ErrNotExist) {
		for _, x := range [][2]string{{"CACHEDIR.TAG", tagText}, {"version", versionLine}} {
			f, err := d.Replace(x[0], []byte(x[1]))
			if err != nil {
				return err
			}
			f.Close()
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
