package bundle

import (
	"context"
	"sync/atomic"

	"vmcastfs/cache/remote"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// Env is what all packages of a mount work with.
type Env struct {
	Archives archive.Env
	Images   image.Env
	Policy   xvm.Policy
	Sidecar  string        // directory or address where sidecars are looked for; "": nowhere
	Reading  chan struct{} // holds one token: a sidecar is being read
}

// Release is what a package is told of its release, and what it asks of it. Its
// functions are called from many goroutines at once.
type Release struct {
	ID, Name string
	Key      string              // of its URL, see feed.URLKey
	Item     func() feed.Release // what the feed says of it now
	Record   *Record
	// Refusal says why nothing of the release is served, whatever the verdict on its
	// package, which it is given; "": it is.
	Refusal func(*xvm.Verdict) string
	// Opened is told that an image is about to be opened.
	Opened func()
	// Patience bounds how long a listing waits for the release's server; the
	// cause of its context says why.
	Patience func(context.Context) (context.Context, context.CancelFunc)
	// Changed is told that the list of files, or one of their states, is another.
	Changed func()
	// Corrupt is told of a file whose content is wrong, with locks of the cache
	// held: it must not block.
	Corrupt func(*File)
	// Replaced is told that the package is not what its server has any more.
	Replaced func()
}

// shared is what the files of one package have in common.
type shared struct {
	release Release
	ruling  atomic.Pointer[xvm.Verdict]
}

func (s *shared) verdict() *xvm.Verdict { return s.ruling.Load() }

// label names a file for people.
func (s *shared) label(name string) string { return s.release.Name + "/" + name }

// refusal says why nothing of the package is served, or "".
func (s *shared) refusal() string {
	v := s.verdict()
	if v.Refused != "" {
		return v.Refused
	}
	return s.release.Refusal(v)
}

// displayURL is a URL fit for logs and status, which others read: without a
// password, and without a query, which may hold a token.
func displayURL(raw string) string { return remote.Display(raw) }
