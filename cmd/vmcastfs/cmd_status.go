package main

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

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

func statusCommand(e *env) *cobra.Command {
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
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: completeMount,
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
		err = e.printJSON(mounts)
	} else {
		err = printStatus(e.stdout, widthOf(e.stdout), mounts, time.Now())
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
	screenOf := terminalOf(e.stdout)
	for {
		mounts, err := resurvey(ctx, find, before)
		if err != nil {
			return err
		}
		if asJSON {
			err = newJSON(e.stdout).Encode(mounts)
		} else {
			var screen writer
			_ = printStatus(&screen, widthOf(e.stdout), mounts, time.Now())
			if screenOf != nil {
				width, height, _ := term.GetSize(int(screenOf.Fd()))
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
