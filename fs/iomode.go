package fs

import (
	"os"
	"sync"

	"vmcastfs/fs/catalog/image"
)

// An ioMode keeps the opens of one inode in one I/O mode, as the kernel demands.
//
//	          open, no local file            open, local file
//	cached <------------------------ idle ------------------------> passthrough
//	  |  any open: cached              ^        any open: passthrough  |
//	  +--------- last release ---------+--------- last release --------+
//
// The kernel leaves a mode before it sends us the release, and we enter one
// before it knows. So our idea of it covers the kernel's at any time. Nor must we
// be ahead of go-fuse; see bridge.
type ioMode struct {
	mu      sync.Mutex // guards the rest; a leaf
	opens   int
	backing *os.File     // what the kernel reads in passthrough mode; nil when cached
	owner   image.Handle // keeps backing valid
}

// opened counts an open of h and returns the file the kernel reads for it, nil in
// cached mode. File is h's offer for passthrough, or nil. It counts only if this
// is the first open.
func (m *ioMode) opened(h image.Handle, file *os.File) *os.File {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.opens++; m.opens == 1 && file != nil {
		m.backing, m.owner = file, h
	}
	return m.backing
}

// released takes h back and returns the handles that are to be closed now. The
// owner of the backing file stays until the last one is released.
func (m *ioMode) released(h image.Handle) []image.Handle {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.opens--
	var done []image.Handle
	if h != m.owner {
		done = append(done, h)
	}
	if m.opens == 0 && m.owner != nil {
		done = append(done, m.owner)
		m.backing, m.owner = nil, nil
	}
	return done
}

// idle tells whether the next open is the first.
func (m *ioMode) idle() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.opens == 0
}
