package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

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
	Linger *Linger          // nil: nothing stays open
	Log    *slog.Logger
	// Go runs a function in the background, on a context that ends with the
	// catalog; false: that has ended.
	Go func(func(ctx context.Context)) bool
}

// Archive is an enclosure whose identity is pinned: its bytes come from one
// version of the object or not at all. It is safe for any number of goroutines.
type Archive struct {
	env   Env
	place Place
	id    remote.Identity
	from  source.Source // without the head
	loose source.Source // likewise, for bytes that sums prove
	head  *headBytes
	object
	move   func(url string) error // nil: a file does not move
	pieces *streamed              // nil: it is not needed
}

// object is what an archive is read from: remote.Object says what its methods do.
type object interface {
	source.Source
	Check(ctx context.Context) error
	Unpinned() source.Source
	Strange() bool
	Adopt()
	Contradicted() bool
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
	return &Archive{env: env, place: place, id: l.id, object: l, from: watch(l, place), loose: watch(l.Unpinned(), place)}
}

func newRemote(env Env, place Place, obj *remote.Object) *Archive {
	a := &Archive{env: env, place: place, id: obj.Identity(), object: obj, move: obj.Move, loose: watch(obj.Unpinned(), place)}
	if head := obj.Head(); len(head) > 0 {
		a.head = newHead(head)
		obj.DropHead() // its memory goes with a.head
	}
	obj.Follow(place.Renew, place.Doubted)
	if a.id.Ranged {
		lost := &rangeless{whole: a.whole(watch(remote.Rangeless(obj), place)), run: env.Go}
		a.from, a.loose = lost.behind(watch(obj, place), a.id.Size), lost.behind(a.loose, a.id.Size)
		a.pieces = newPieces(a)
	} else {
		a.from = watch(obj.OneStream(), place)
	}
	return a
}

// Identity is that of the version that all bytes are of.
func (a *Archive) Identity() remote.Identity { return a.id }

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

// Fetch gives a range of the archive, from the head where that reaches. A head that
// comes from several servers is for those who have sums.
func (a *Archive) Fetch(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	if a.Strange() {
		return a.from.Fetch(ctx, off, n, u)
	}
	return a.fetch(ctx, a.from, off, n, u)
}

// Proven is Fetch for bytes that the caller has sums of. It is a source.Forward if the
// server has no ranges.
func (a *Archive) Proven() source.Source {
	if !a.id.Ranged {
		return a.loose
	}
	return source.Func(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		return a.fetch(ctx, a.loose, off, n, u)
	})
}

func (a *Archive) fetch(ctx context.Context, from source.Source, off, n int64, u source.Urgency) (io.ReadCloser, error) {
	if n >= 0 && n <= a.head.reach(off)-off {
		p := make([]byte, n)
		if a.head.copy(ctx, p, off) == len(p) {
			return io.NopCloser(bytes.NewReader(p)), nil
		}
	}
	return from.Fetch(ctx, off, n, u)
}

// ReadAt reads for the tar walk, which wants plain reads: from the head where
// that reaches, else by a range. Whoever reads like this asks Strange afterwards.
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
		body, err := a.loose.Fetch(ctx, off+int64(n), int64(len(want)-n), source.UrgencyOf(ctx))
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

// PrefetchTail asks for what indexing this archive is going to want, all at once.
// Over a long way each piece would be a round trip after the other.
func (a *Archive) PrefetchTail(ctx context.Context) {
	var warm func(ctx context.Context, spans ...[2]int64)
	if a.Mirrored() != nil && !a.Hearsay() {
		warm = a.object.(*remote.Object).Warm
	}
	a.head.prefetch(ctx, a.loose, a.id.Size, a.env.Go, a.Mirrored() != nil, warm)
}

// Hearsay tells that nothing but a mirror has said what the archive is, see
// remote.Object.Hearsay.
func (a *Archive) Hearsay() bool {
	obj, ok := a.object.(*remote.Object)
	return ok && obj.Hearsay()
}

// Unlabelled tells that the server does not say any more what the archive is.
func (a *Archive) Unlabelled() bool {
	obj, ok := a.object.(*remote.Object)
	return ok && remote.Unlabelled(obj)
}

// Reach is up to where the first bytes of the archive are here, or are coming.
func (a *Archive) Reach() int64 { return a.head.reach(0) }

// DropHead gives up the first bytes, once the archive is indexed.
func (a *Archive) DropHead() { a.head.drop() }

// key names a file of the cache that is made of the whole archive.
func (a *Archive) key(what ...string) store.Key {
	return Key(append([]string{a.place.Key, a.id.ETag, a.id.LastModified, fmt.Sprint(a.id.Size)}, what...)...)
}
