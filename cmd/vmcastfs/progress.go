package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress shows on stderr how far a long work over bytes has come, if that is
// a terminal. add may be called from any goroutine; done takes the bar away.
func (e *env) progress(what string, total int64) (add func(n int64), done func()) {
	f, ok := e.stderr.(*os.File)
	if !ok || !isTerminal(f) {
		return func(int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(total,
		progressbar.OptionSetDescription(what), progressbar.OptionSetWriter(f), progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true), progressbar.OptionFullWidth(), progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())
	bar.StartWithoutRender() // or its first rate would be that of no time
	return func(n int64) { _ = bar.Add64(n) }, func() { _ = bar.Clear() }
}
