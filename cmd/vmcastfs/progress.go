package main

import (
	"context"
	"io"
	"os"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/schollz/progressbar/v3"
)

// progress shows on stderr how far a long work over bytes has come, if that is
// a terminal. add may be called from any goroutine; done takes the bar away.
func (e *env) progress(what string, total int64) (add func(n int64), done func()) {
	f := terminalOf(e.stderr)
	if f == nil {
		return func(int64) {}, func() {}
	}
	bar := newBar(f, what, total)
	var width atomic.Int64
	width.Store(int64(widthOf(f)))
	return func(n int64) {
		if w := int64(widthOf(f)); width.Swap(w) != w { // somebody has resized it
			bar.Describe(described(f, what))
		}
		_ = bar.Add64(n)
	}, func() { _ = bar.Clear() }
}

// waitFor runs fn, and shows on a terminal that it takes a while, and with far how
// far it is. It does not wait for fn, which may wait in the kernel, beyond ctx.
func waitFor(ctx context.Context, stderr io.Writer, what string, far func() (at, total int64), fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- fn() }()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var bar *progressbar.ProgressBar
	for {
		select {
		case err := <-done:
			if bar != nil {
				_ = bar.Clear()
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		at, total := int64(0), int64(-1)
		if far != nil {
			at, total = far()
		}
		if f := terminalOf(stderr); bar == nil && f != nil {
			bar = newBar(f, what, total)
		}
		if bar != nil {
			_ = bar.Set64(min(at, max(total-1, 0)))
		}
	}
}

// terminalOf is the terminal that w is, or nil.
func terminalOf(w io.Writer) *os.File {
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		return f
	}
	return nil
}

// newBar is a bar over bytes, with how many there are, the rate and the time left.
func newBar(out *os.File, what string, total int64) *progressbar.ProgressBar {
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetDescription(described(out, what)), progressbar.OptionSetWriter(out), progressbar.OptionShowBytes(true), progressbar.OptionShowCount(),
		progressbar.OptionUseIECUnits(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish(),
		progressbar.OptionUseANSICodes(os.Getenv("TERM") != "dumb"))
	bar.StartWithoutRender() // or its first rate would be that of no time
	return bar
}

// described is what is done, in what the bar and the numbers leave of the width. Of a path
// the end tells more.
func described(out *os.File, what string) string {
	if room := max(widthOf(out)-56, 9); utf8.RuneCountInString(what) > room {
		runes := []rune(what)
		return "…" + string(runes[len(runes)-room+1:])
	}
	return what
}
