package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// LocalPath reports whether spec, as given on a command line, means a local
// file. That is a file: URL, or anything that is no URL. path is absolute. The error
// is that of a file: URL which names another machine.
func LocalPath(spec string) (path string, ok bool, err error) {
	if strings.Contains(spec, "://") || strings.HasPrefix(spec, "file:") {
		u, err := url.Parse(spec)
		if err != nil || !strings.EqualFold(u.Scheme, "file") {
			return "", false, nil
		}
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") {
			return "", true, fmt.Errorf("%q names no file on this machine", spec)
		}
		return u.Path, true, nil
	}
	path, err = filepath.Abs(spec)
	return path, true, err
}

// FetchFile is a Fetch for [PollerOptions] that reads a local file. Device,
// inode, size and both times are its validator: an unchanged file is not read.
// Only regular files of at most [MaxBody] bytes are read. From is the number of
// the user who could have put the file there. That is the owner of the first
// directory or link on the way that is neither root's nor ours, else of the file.
func FetchFile(_ context.Context, spec, etag, _ string) (*Document, error) {
	path, ok, err := LocalPath(spec)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%q is not a local file", spec)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang us
	if err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	if !st.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil, errors.New("open feed: this system tells nothing about files")
	}
	now := fmt.Sprintf("%x-%x-%x-%d.%09d-%d.%09d", sys.Dev, sys.Ino, sys.Size, sys.Mtim.Sec, sys.Mtim.Nsec, sys.Ctim.Sec, sys.Ctim.Nsec)
	final := (&url.URL{Scheme: "file", Path: path}).String()
	from := strconv.FormatUint(uint64(writerOf(path, sys.Uid)), 10)
	if now == etag {
		return &Document{ETag: now, FinalURL: final, From: from, NotModified: true}, nil
	}
	body, err := io.ReadAll(io.LimitReader(f, MaxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	if len(body) > MaxBody {
		return nil, fmt.Errorf("%w: more than %d MiB", errTooLarge, MaxBody>>20)
	}
	return &Document{Body: body, ETag: now, FinalURL: final, From: from}, nil
}

// writerOf returns the user who could have put a file at path that was found to
// belong to owner. The first stranger on the way can exchange all that follows.
// The owner of the root directory is no stranger: in a user namespace that is not
// user 0.
func writerOf(path string, owner uint32) uint32 {
	var st syscall.Stat_t
	trusted := []uint32{0, uint32(os.Geteuid())}
	if syscall.Lstat("/", &st) == nil {
		trusted = append(trusted, st.Uid)
	}
	at, links := "/", 0
	for rest := strings.Split(path, "/"); len(rest) > 0; {
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		if syscall.Lstat(next, &st) != nil {
			break // it has gone: what was opened before has an owner
		}
		if !slices.Contains(trusted, st.Uid) {
			return st.Uid
		}
		if st.Mode&syscall.S_IFMT != syscall.S_IFLNK {
			at = next
			continue
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > 40 {
			break
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append(strings.Split(to, "/"), rest...)
	}
	return owner
}
