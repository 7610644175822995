package archive

import (
	"context"
	"net/url"
)

// Place says where an enclosure is, and what is done when that changes. Its
// functions are called from many goroutines at once; they hold no lock of the
// caller's.
type Place struct {
	Name string        // of the release, for the log
	URL  func() string // where the enclosure is now
	Key  string        // the same for all URLs of one enclosure
	Base string        // the feed that names it, whose rules bind it; "": the operator does
	// Writer is the user whose feed names it, see feed.Document.From; nil: the
	// operator does.
	Writer func() string
	// Renew returns a fresh URL in the place of was, which is of no use any more, "" if
	// there is none. nil: there never is.
	Renew func(ctx context.Context, was string) string
	// Doubted is called, often, while reads wait since the answers are of no use: perhaps
	// the archive is another one now. nil: nobody is told.
	Doubted func()
	// Replaced is called when the enclosure turns out to be another one. nil:
	// the caller looks for remote.ErrChanged itself.
	Replaced func()
}

// LocalPath tells whether a URL names a file of this machine.
func LocalPath(rawURL string) (string, bool) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return u.Path, true
}
