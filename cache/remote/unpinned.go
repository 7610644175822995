package remote

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"vmcastfs/cache/source"
)

// A pin says what becomes of answers that have another validator than the object.
type pin int

const (
	pinned    pin = iota // they are ErrChanged
	adopted              // so they are, but for those that were adopted
	unpinned             // they count, if the size is the same
	rangeless            // as pinned; the object is asked for without a range
)

// maxKnown bounds the identities that an object has beside its own.
const maxKnown = 8

// Unpinned returns the object as a source that takes a validator for a hint. Servers that
// were moved, restored, or stand behind one name give the same bytes another one. Only
// another size is [ErrChanged]. It is for callers that have sums of all that they fetch, and
// call [Object.Contradicted] when those differ. Without ranges it is [Object.OneStream].
func (o *Object) Unpinned() source.Source {
	if !o.id.Ranged {
		return o.OneStream()
	}
	return source.Func(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		return o.fetch(ctx, off, n, u, unpinned)
	})
}

// Strange reports whether there were answers with another validator than the pinned one.
func (o *Object) Strange() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.other != Identity{}
}

// Unlabelled reports whether the last such answer had no validator at all: the server does not
// say any more what the object is.
func Unlabelled(o *Object) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.other != Identity{} && !o.other.Pinned()
}

// Adopt says that the last other identity is of the same bytes, as sums have proven. Check
// takes it for the object from now on. So does every Fetch if it is [Unlabelled]: what
// has another validator is not mixed in, but what has none is as of a server that never had
// one.
func (o *Object) Adopt() {
	defer o.rally.over()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.ContainsFunc(o.known, o.other.looksLike) {
		o.known = append(o.known[max(0, len(o.known)-maxKnown+1):], o.other)
		o.client.options.Logger.Info("the server gives the same bytes another validator", "url", o.shown, "etag", o.other.ETag, "modified", o.other.LastModified)
	}
}

// Contradicted says that what was fetched does not have its sums. If any of it came with
// another validator it is of another object: then true, and all is [ErrChanged] from now on.
func (o *Object) Contradicted() bool {
	if !o.Strange() {
		return false
	}
	o.seal(fmt.Errorf("%w: other validators, and other bytes", ErrChanged), unpinned)
	return true
}

// check compares the validators of an answer with the pinned ones. sure is true if they prove
// that it is the same object; the size is the caller's to compare.
func (o *Object) check(h http.Header, p pin) (sure bool, err error) {
	sure, err = o.id.check(h)
	if err == nil {
		return sure, nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	other := identityOf(h, o.id.Size, true)
	if p == unpinned || (p == adopted || !other.Pinned()) && slices.ContainsFunc(o.known, other.looksLike) {
		err = nil
	}
	if err != nil || p == unpinned {
		o.other = other
	}
	return false, err
}
