package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"

	"vmcastfs/fs"
	"vmcastfs/fs/catalog"
)

// findMounts lists the mounts of vmcastfs; with a directory, the one it is in.
func findMounts(dir string) ([]mountStatus, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter(fs.FSType))
	if err != nil {
		return nil, withCode(exitSystem, err)
	}
	var found []mountStatus
	for _, m := range mounts {
		found = append(found, mountStatus{Dir: m.Mountpoint, Feed: m.Source})
	}
	if dir == "" {
		return found, nil
	}
	path, err := filepath.Abs(dir)
	if err != nil {
		return nil, usagef("%w", err)
	}
	// By its name first: to follow links is to ask the mount, which may hang.
	i := mountOf(found, path)
	if i < 0 {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			i = mountOf(found, real)
		}
	}
	if i < 0 {
		return nil, withCode(exitFailed, fmt.Errorf("no feed is mounted on %s", dir))
	}
	return found[i : i+1], nil
}

// liveMount is the mount that a path is in, which has told its status. It is asked
// before anything else of the mount, which may take for ever.
func liveMount(ctx context.Context, path string) (mountStatus, error) {
	mounts, err := findMounts(path)
	if err != nil {
		return mountStatus{}, err
	}
	return mounts[0], mounts[0].mustLook(ctx)
}

// mustLook is look; an error says that there is no status.
func (m *mountStatus) mustLook(ctx context.Context) error {
	m.look(ctx)
	return m.answered()
}

// answered says why there is no status.
func (m *mountStatus) answered() error {
	if m.Status == nil {
		return withCode(exitFailed, fmt.Errorf("the mount on %s is %s: %s", m.Dir, m.State, m.Error))
	}
	return nil
}

// find is the release that a path in the mount means, and its file if one is named. It
// has the release indexed, and waits as long as that takes.
func (m *mountStatus) find(ctx context.Context, arg string) (release, file string, err error) {
	path, err := filepath.Abs(arg)
	if err == nil {
		path, err = filepath.EvalSymlinks(path) // latest is a link
	}
	if err == nil {
		path, err = filepath.Rel(m.Dir, path)
	}
	if err != nil {
		return "", "", withCode(exitFailed, err)
	}
	release, file, _ = strings.Cut(path, "/")
	if release == "." || strings.Contains(file, "/") {
		return "", "", usagef("%s is no release of a mount: name DIR/RELEASE or DIR/RELEASE/IMAGE", arg)
	}
	dir := filepath.Join(m.Dir, release)
	for err = syscall.EAGAIN; errors.Is(err, syscall.EAGAIN) && ctx.Err() == nil; { // a long archive is inflated
		indexed(dir)
		_, err = os.ReadDir(dir)
	}
	return release, file, withCode(exitFailed, err)
}

// mountOf is the mount that a path is in, or -1.
func mountOf(mounts []mountStatus, path string) int {
	for at := path; ; at = filepath.Dir(at) {
		for i := len(mounts) - 1; i >= 0; i-- { // the topmost of several
			if mounts[i].Dir == at {
				return i
			}
		}
		if at == "/" {
			return -1
		}
	}
}

// look reads the status of the mount; it never waits long for a hung one.
func (m *mountStatus) look(ctx context.Context) {
	type answer struct {
		raw []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		raw, err := readAtMost(filepath.Join(m.Dir, ".vmcastfs/status.json"), maxStatus)
		got <- answer{raw, err}
	}()
	var a answer
	select {
	case a = <-got:
	case <-ctx.Done():
		a.err = ctx.Err()
	case <-time.After(statusLimit):
		a.err = fmt.Errorf("no answer within %s, its process is stopped or stuck: kill it and mount again", statusLimit)
	}
	m.at = time.Now()
	st := new(catalog.Status)
	if a.err == nil {
		if err := json.Unmarshal(a.raw, st); err != nil {
			a.err = fmt.Errorf("status.json: %w", err)
		}
	}
	switch {
	case a.err == nil:
		m.State, m.Status = "mounted", st
	case errors.Is(a.err, os.ErrPermission):
		m.State, m.Error = "mounted", "only its owner may look: "+a.err.Error()
	case errors.Is(a.err, syscall.ENOTCONN):
		m.State, m.Error = "dead", "its process is gone; `vmcastfs umount` or mounting again cleans it up"
	default:
		m.State, m.Error = "hung", a.err.Error()
	}
}

// readAtMost reads a file that may have limit bytes.
func readAtMost(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", path, limit)
	}
	return raw, err
}

// measure fills in the rates since an earlier look.
func (m *mountStatus) measure(before *mountStatus) {
	if m.Status == nil || before == nil || before.Status == nil {
		return
	}
	seconds := m.at.Sub(before.at).Seconds()
	if seconds <= 0 {
		return
	}
	rate := max(0, float64(fetched(m.Status)-fetched(before.Status))/seconds)
	m.Rate = &rate
	was := make(map[string]int64)
	for _, r := range before.Status.Releases {
		for _, f := range r.Files {
			was[r.Name+"/"+f.Name] = f.CachedBytes
		}
	}
	for _, r := range m.Status.Releases {
		for _, f := range r.Files {
			grown := f.CachedBytes - was[r.Name+"/"+f.Name]
			if _, known := was[r.Name+"/"+f.Name]; !known || grown <= 0 {
				continue
			}
			p := imageProgress{Release: r.Name, File: f.Name, Rate: float64(grown) / seconds}
			// Known zeros never come over the network, so the share tells
			// what is left better than the size does.
			if f.Percent > 0 && f.Percent < 100 && f.CachedBytes > 0 {
				left := float64(f.CachedBytes) * (100 - f.Percent) / f.Percent / p.Rate
				p.ETA = &left
			}
			m.Images = append(m.Images, p)
		}
	}
}

func fetched(st *catalog.Status) int64 {
	n := int64(0)
	for _, o := range st.Origins {
		n += o.Bytes.Demand + o.Bytes.ReadAhead + o.Bytes.Background
	}
	return n
}

// survey looks at all mounts at once.
func survey(ctx context.Context, mounts []mountStatus) {
	done := make(chan struct{})
	for i := range mounts {
		go func() {
			mounts[i].look(ctx)
			done <- struct{}{}
		}()
	}
	for range mounts {
		<-done
	}
}

// resurvey looks again and measures against the look before.
func resurvey(ctx context.Context, find func() ([]mountStatus, error), before []mountStatus) ([]mountStatus, error) {
	mounts, err := find()
	if err != nil {
		return nil, err
	}
	survey(ctx, mounts)
	for i := range mounts {
		for j := range before {
			if before[j].Dir == mounts[i].Dir && before[j].Feed == mounts[i].Feed {
				mounts[i].measure(&before[j])
			}
		}
	}
	return mounts, nil
}
