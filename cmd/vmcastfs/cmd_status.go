package main

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

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
	var asJSON, watch, all bool
	cmd := &cobra.Command{
		Use:   "status [--json] [--watch] [--all] [DIR]",
		Short: "show the state of mounts, images, cache and network",
		Long: `status shows every mount of vmcastfs, or the one that DIR is in: the feed, each
release with its images (state, local share, rate, time left, last error), each
server (latency, bytes, errors) and how full the cache is. It asks the mounts
themselves, which answer from memory. The exit status is 1 if a mount is dead
or hung, or if there is none on DIR.

On a terminal it fills one screen: releases that are at fault, in use or cached
come first. The last line says what to do next. NO_COLOR turns colours off.

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
				return e.watchStatus(cmd.Context(), find, asJSON, all)
			}
			return e.status(cmd.Context(), find, asJSON, all)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")
	cmd.Flags().BoolVarP(&all, "all", "a", false, "all releases, also if they do not fit the terminal")
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "show it again every second")
	return cmd
}

func (e *env) status(ctx context.Context, find func() ([]mountStatus, error), asJSON, all bool) error {
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
		err = printStatus(e.stdout, screenOf(e.stdout).all(all), mounts, time.Now())
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

func (e *env) watchStatus(ctx context.Context, find func() ([]mountStatus, error), asJSON, all bool) error {
	var before []mountStatus
	for {
		mounts, err := resurvey(ctx, find, before)
		if err != nil {
			return err
		}
		if asJSON {
			err = newJSON(e.stdout).Encode(mounts)
		} else {
			var text bytes.Buffer
			on := screenOf(e.stdout)
			_ = printStatus(&text, on.all(all), mounts, time.Now())
			shown := text.Bytes()
			if on.width > 0 {
				shown = onScreen(shown, on)
			}
			_, err = e.stdout.Write(shown)
		}
		if err != nil {
			return err
		}
		before = mounts
		select {
		case <-time.After(watchSpan):
		case <-ctx.Done(): // how a watch ends
			if terminalOf(e.stdout) != nil {
				fmt.Fprintln(e.stdout) // the terminal has put ^C on the line
			}
			return nil
		}
	}
}

// onScreen is text drawn over what a terminal shows, line by line, and no more of it
// than fits: what scrolls away cannot be drawn over. The last line stays.
func onScreen(text []byte, on screen) []byte {
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	rows := func(line string) int {
		return max(1, (utf8.RuneCountInString(escapes.ReplaceAllString(line, ""))+on.width-1)/max(on.width, 1))
	}
	if on.height > 0 {
		last := lines[len(lines)-1]
		room := on.height - 1 - rows(last)
		fit := 0
		for fit < len(lines)-1 && room >= rows(lines[fit]) {
			room -= rows(lines[fit])
			fit++
		}
		if left := len(lines) - 1 - fit; left > 0 {
			fit = max(0, fit-1)
			lines = append(lines[:fit:fit], fmt.Sprintf("… %d lines more", len(lines)-1-fit), last)
		}
	}
	return []byte("\x1b[H" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\n\x1b[J")
}

// escapes are the colours in a line.
var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")
