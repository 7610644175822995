package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"

	"vmcastfs/cache"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/source"
	"vmcastfs/cache/store"
	"vmcastfs/xvm/seekable"
)

// Env is what all archives work with. All of it is needed.
type Env struct {
	Remote *remote.Client
	Cache  *cache.Cache
	Store  *store.Store     // keeps seek points
	Memory *seekable.Budget // of the decoders of inflated archives
	Log    *slog.Logger
	// Go runs a function in the background, on a context that ends with the
	// catalog; false: that has ended.
	Go func(func(ctx context.Context)) bool
}

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
	// Renew looks for a fresh URL in the place of was, which is of no use any
	// more, and tells whether there is one. nil: there never is.
	Renew func(ctx context.Context, was string) bool
	// Replaced is called when the enclosure turns out to be another one. nil:
	// the caller looks for remote.ErrChanged itself.
	Replaced func()
}

// Archive is an enclosure whose identity is pinned: its bytes come from one
// version of the object or not at all. It is safe for any number of goroutines.
type Archive struct {
	env   Env
	place Place
	id    remote.Identity
	from  source.Source // without the head
	head  *headBytes
	check func(ctx context.Context) error
	move  func(url string) error // nil: a file does not move
}

// Open finds out what the enclosure is now.
func Open(ctx context.Context, env Env, place Place) (*Archive, error) {
	if path, ok := LocalPath(place.URL()); ok {
		l, err := openLocal(path, place.Writer)
		if err != nil {
			return nil, err
		}
		return newLocal(env, place, l), nil
	}
	obj, err := env.Remote.Open(ctx, place.URL(), place.Base)
	if err != nil {
		return nil, err
	}
	return newRemote(env, place, obj), nil
}

// Resume takes up an enclosure whose identity is known, without asking for it.
func Resume(env Env, place Place, id remote.Identity) *Archive {
	if path, ok := LocalPath(place.URL()); ok {
		return newLocal(env, place, &local{path: path, id: id, writer: place.Writer})
	}
	return newRemote(env, place, env.Remote.Resume(place.URL(), place.Base, id))
}

func newLocal(env Env, place Place, l *local) *Archive {
	a := &Archive{env: env, place: place, id: l.id, check: l.check}
	a.from = a.watch(l)
	return a
}

func newRemote(env Env, place Place, obj *remote.Object) *Archive {
	a := &Archive{env: env, place: place, id: obj.Identity(), check: obj.Check, move: obj.Move}
	if head := obj.Head(); len(head) > 0 {
		a.head = newHead(head)
	}
	if a.id.Ranged {
		a.from = a.watch(obj)
	} else {
		a.from = a.watch(obj.OneStream())
	}
	return a
}

// Identity is that of the version that all bytes are of.
func (a *Archive) Identity() remote.Identity { return a.id }

// Check asks whether the archive is still there as it was: nil,
// remote.ErrChanged, or why that cannot be told now.
func (a *Archive) Check(ctx context.Context) error { return a.check(ctx) }

// Move has the archive asked for where the enclosure is now. That it is the
// same one is not believed: its identity is compared with each answer.
func (a *Archive) Move() {
	if a.move == nil {
		return
	}
	if err := a.move(a.place.URL()); err != nil {
		a.env.Log.Warn("the feed's new URL is of no use; the old one is asked on", "release", a.place.Name, "err", err)
	}
}

// Whole is what a file of the cache that holds the whole archive is filled from.
// It is a source.Forward if the server has no ranges.
func (a *Archive) Whole() source.Source { return a.from }

// Fetch gives a range of the archive, from the head where that reaches.
func (a *Archive) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	if n >= 0 && n <= a.head.reach(off)-off {
		p := make([]byte, n)
		if a.head.copy(ctx, p, off) == len(p) {
			return io.NopCloser(bytes.NewReader(p)), nil
		}
	}
	return a.from.Fetch(ctx, off, n, u)
}

// ReadAt reads for the tar walk, which wants plain reads: from the head where
// that reaches, else by a range.
func (a *Archive) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	want := p
	var atEnd error
	if off >= a.id.Size {
		return 0, io.EOF
	}
	if rest := a.id.Size - off; int64(len(want)) > rest {
		want, atEnd = want[:rest], io.EOF
	}
	n := a.head.copy(ctx, want, off)
	if n < len(want) {
		body, err := a.from.Fetch(ctx, off+int64(n), int64(len(want)-n), source.Demand)
		if err != nil {
			return n, err
		}
		defer body.Close()
		m, err := io.ReadFull(body, want[n:])
		n += m
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return n, err
		}
	}
	return n, atEnd
}

// key names a file of the cache that is made of the whole archive.
func (a *Archive) key(what ...string) store.Key {
	return Key(append([]string{a.place.Key, a.id.ETag, a.id.LastModified, fmt.Sprint(a.id.Size)}, what...)...)
}

// LocalPath tells whether a URL names a file of this machine.
func LocalPath(rawURL string) (string, bool) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "file" {
		return "", false
	}
	return u.Path, true
}
