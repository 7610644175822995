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
	"unicode/utf8"

	"github.com/moby/sys/mountinfo"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"vmcastfs/fs"
	"vmcastfs/fs/catalog"
)

// mountStatus is a mount as `status --json` prints it. Status is what
// DIR/.vmcastfs/status.json holds; the rates are measured between two looks at
// it, and left out when there was only one.
type mountStatus struct {
	Dir    string          `json:"dir"`
	Feed   string          `json:"feed"`
	State  string          `json:"state"` // mounted, dead (its process is gone) or hung
	Error  string          `json:"error,omitempty"`
	Rate   *float64        `json:"rate_bytes_per_second,omitempty"` // from the network
	Images []imageProgress `json:"progress,omitempty"`              // images that are being fetched
	Status *catalog.Status `json:"status,omitempty"`

	at time.Time // when Status was read
}

// imageProgress is how an image grows.
type imageProgress struct {
	Release string   `json:"release"`
	File    string   `json:"file"`
	Rate    float64  `json:"rate_bytes_per_second"`
	ETA     *float64 `json:"eta_seconds,omitempty"`
}

const (
	// statusLimit is how long a mount may take to tell its status.
	statusLimit = 5 * time.Second
	// maxStatus bounds what it may tell, in bytes: the process behind a mount
	// need not be ours. That of 10 000 releases takes some 5 MB.
	maxStatus = 256 << 20
	// rateSpan is between the two looks of a single status.
	rateSpan = 500 * time.Millisecond
	// watchSpan is between redraws.
	watchSpan = time.Second
)

func (e *env) statusCommand() *cobra.Command {
	var asJSON, watch bool
	cmd := &cobra.Command{
		Use:   "status [--json] [--watch] [DIR]",
		Short: "show the state of mounts, images, cache and network",
		Long: `status shows every mount of vmcastfs, or the one that DIR is in: the feed, each
release with its images (state, local share, rate, time left, last error), each
server (latency, bytes, errors) and how full the cache is. It asks the mounts
themselves, which answer from memory. The exit status is 1 if a mount is dead
or hung, or if there is none on DIR.

With --watch it shows that again every second, until Ctrl-C; with --json too,
each time as one line.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			find := func() ([]mountStatus, error) { return findMounts("") }
			if len(args) == 1 {
				find = func() ([]mountStatus, error) { return findMounts(args[0]) }
			}
			if watch {
				return e.watchStatus(cmd.Context(), find, asJSON)
			}
			return e.status(cmd.Context(), find, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second")
	return cmd
}

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

func (e *env) status(ctx context.Context, find func() ([]mountStatus, error), asJSON bool) error {
	mounts, err := find()
	if err != nil {
		return err
	}
	survey(ctx, mounts)
	for _, m := range mounts {
		if m.Status == nil {
			continue // nothing to measure
		}
		select {
		case <-time.After(rateSpan):
		case <-ctx.Done():
			return withCode(exitInterrupted, ctx.Err())
		}
		if again, err := resurvey(ctx, find, mounts); err == nil {
			mounts = again
		}
		break
	}
	if asJSON {
		if mounts == nil {
			mounts = []mountStatus{}
		}
		enc := newJSON(e.stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(mounts)
	} else {
		err = printStatus(e.stdout, mounts, time.Now())
	}
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if m.State != "mounted" {
			return withCode(exitFailed, fmt.Errorf("the mount on %s is %s", m.Dir, m.State))
		}
	}
	return nil
}

func (e *env) watchStatus(ctx context.Context, find func() ([]mountStatus, error), asJSON bool) error {
	var before []mountStatus
	f, _ := e.stdout.(*os.File)
	redraw := f != nil && isTerminal(f)
	for {
		mounts, err := resurvey(ctx, find, before)
		if err != nil {
			return err
		}
		if asJSON {
			err = newJSON(e.stdout).Encode(mounts)
		} else {
			var screen writer
			_ = printStatus(&screen, mounts, time.Now())
			if redraw {
				width, height, _ := term.GetSize(int(f.Fd()))
				screen = onScreen(screen, width, height)
			}
			_, err = e.stdout.Write(screen)
		}
		if err != nil {
			return err
		}
		before = mounts
		select {
		case <-time.After(watchSpan):
		case <-ctx.Done():
			return nil // how a watch ends
		}
	}
}

// onScreen is text drawn over what a terminal of that size shows, and no more of
// it than fits: what scrolls away cannot be drawn over. Size 0 is unknown.
func onScreen(text []byte, width, height int) []byte {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	rows := func(line string) int {
		if width <= 0 {
			return 1
		}
		return max(1, (utf8.RuneCountInString(line)+width-1)/width)
	}
	fit, used := 0, 0
	for fit < len(lines) && (height <= 0 || used+rows(lines[fit]) < height) {
		used += rows(lines[fit])
		fit++
	}
	if fit < len(lines) {
		fit = max(0, fit-1)
		lines = append(lines[:fit:fit], fmt.Sprintf("… %d lines more", len(lines)-fit))
	}
	return []byte("\x1b[H\x1b[J" + strings.Join(lines, "\n") + "\n")
}

// writer collects what is written at once.
type writer []byte

func (w *writer) Write(p []byte) (int, error) {
	*w = append(*w, p...)
	return len(p), nil
}
