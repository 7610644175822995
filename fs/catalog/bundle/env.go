package bundle

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// Env is what all packages of a mount work with.
type Env struct {
	Archives archive.Env
	Images   image.Env
	Policy   func() xvm.Policy // as it is now; safe for any number of goroutines
	Sidecar  string            // directory or address where sidecars are looked for; "": nowhere
	Reading  chan struct{}     // holds one token: a sidecar is being read
}

// Release is what a package is told of its release, and what it asks of it. Its
// functions are called from many goroutines at once.
type Release struct {
	ID, Name string
	Key      string              // of its URL, see feed.URLKey
	Item     func() feed.Release // what the feed says of it now
	Record   *Record
	// Older finds an image of an earlier release, see image.Set; nil: there is none.
	Older func(file string) (image.Booted, bool)
	// Left is when the feed was found to have dropped the release; zero: it has not.
	Left func() time.Time
	// Refusal says why nothing of the release is served, whatever the verdict on its
	// package, which it is given; "": it is.
	Refusal func(*xvm.Verdict) string
	// Judged is told of a verdict that took the place of another, as the keys or the
	// time have changed.
	Judged func(was, is *xvm.Verdict)
	// Opened is told that an image is about to be opened. An error keeps it closed.
	Opened func(context.Context) error
	// Refused is told that an open was refused: it may be another archive by now.
	Refused func()
	// Patience bounds how long a listing waits for the release's server; the
	// cause of its context says why.
	Patience func(context.Context) (context.Context, context.CancelFunc)
	// Changed is told that the list of files, or one of their states, is another.
	Changed func()
	// Corrupt is told of a file whose content is wrong, with locks of the cache
	// held: it must not block.
	Corrupt func(name string, inode uint64)
	// Withdrawn is told, in the same way, of a file some of whose bytes may have
	// been wrong and are decoded again.
	Withdrawn func(inode uint64)
	// Replaced is told that the package is not what its server has any more.
	Replaced func()
}

// shared is what the files of one package have in common.
type shared struct {
	release Release
	policy  func() xvm.Policy
	judge   func() (*xvm.Verdict, error) // on the same package

	judging sync.Mutex // held while a verdict takes the place of another; a leaf
	ruling  atomic.Pointer[xvm.Verdict]
}

// verdict is the verdict on the package. It is made anew when the keys have
// changed, or when the time has come at which it no longer stands.
func (s *shared) verdict() *xvm.Verdict {
	v := s.ruling.Load()
	if v.Stands(s.policy(), time.Now()) {
		return v
	}
	was, is := s.judgeAnew()
	if was != is {
		s.release.Judged(was, is)
	}
	return is
}

func (s *shared) judgeAnew() (was, is *xvm.Verdict) {
	s.judging.Lock()
	defer s.judging.Unlock()
	was = s.ruling.Load()
	if was.Stands(s.policy(), time.Now()) {
		return was, was
	}
	is, _ = s.judge() // an error would have been one when the package was opened
	if was.UsesSidecar() && !is.UsesSidecar() {
		is = is.Refuse("the sidecar that it was opened with does not count any more: " + is.SidecarUnused)
	}
	s.ruling.Store(is)
	return was, is
}

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
