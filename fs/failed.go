package fs

import (
	"sync"
	"time"
)

const (
	// longWait is how long a read has waited in vain for the kernel's repetition
	// of it to be answered at once.
	longWait = time.Second
	// repeated is how soon that comes.
	repeated = 250 * time.Millisecond
)

// failedRead remembers the read that failed last after a long wait. When its
// read-ahead has failed, the kernel asks again for the page that somebody waits
// for. Without this a soft read would take twice its time to fail.
type failedRead struct {
	mu       sync.Mutex // a leaf
	off, end int64
	at       time.Time
}

// note remembers a failed read, together with those that failed just before:
// the kernel reads ahead in several requests.
func (f *failedRead) note(off, n int64, took time.Duration) {
	if took < longWait {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	end := off + n
	if time.Since(f.at) < repeated {
		off, end = min(off, f.off), max(end, f.end)
	}
	f.off, f.end, f.at = off, end, time.Now()
}

// repeats tells whether a read is the kernel's repetition of what has failed.
func (f *failedRead) repeats(off, n int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return off < f.end && f.off < off+n && time.Since(f.at) < repeated
}
