package remote

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// maxValidator is the longest ETag or Last-Modified that is taken for one, in bytes.
const maxValidator = 1024

// An Identity says which object a URL named when it was opened. It may be kept, as JSON,
// and given to [Client.Resume].
type Identity struct {
	ETag         string `json:"etag,omitempty"`         // a strong one, with its quotes; "" if there was none
	LastModified string `json:"lastModified,omitempty"` // as the server wrote it
	DateStrong   bool   `json:"dateStrong,omitempty"`   // LastModified is a strong validator
	Size         int64  `json:"size"`                   // bytes, -1 if the server did not say
	Ranged       bool   `json:"ranged"`                 // the server answers ranges
	HTML         bool   `json:"html,omitempty"`         // the server calls it HTML
}

// Pinned reports whether there is a validator beside the size.
func (id Identity) Pinned() bool { return id.ETag != "" || id.LastModified != "" }

// looksLike compares the validators alone.
func (id Identity) looksLike(other Identity) bool {
	return id.ETag == other.ETag && id.LastModified == other.LastModified
}

// identityOf reads the validators of an answer.
func identityOf(h http.Header, size int64, ranged bool) Identity {
	id := Identity{ETag: strongETag(h), LastModified: lastModified(h), Size: size, Ranged: ranged, HTML: isHTML(h)}
	modified, err1 := http.ParseTime(id.LastModified)
	date, err2 := http.ParseTime(h.Get("Date"))
	id.DateStrong = err1 == nil && err2 == nil && date.Sub(modified) >= time.Second
	return id
}

func isHTML(h http.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	return strings.EqualFold(kind, "text/html") || strings.EqualFold(kind, "application/xhtml+xml")
}

// strongETag returns the ETag of an answer if it is a strong, well-formed one (RFC 9110,
// section 8.8.3).
func strongETag(h http.Header) string {
	etag := h.Get("ETag")
	if len(etag) < 2 || len(etag) > maxValidator || etag[0] != '"' || etag[len(etag)-1] != '"' {
		return ""
	}
	for _, c := range []byte(etag[1 : len(etag)-1]) {
		if c <= ' ' || c == '"' || c == 0x7f {
			return ""
		}
	}
	return etag
}

func lastModified(h http.Header) string {
	value := strings.TrimSpace(h.Get("Last-Modified"))
	if _, err := http.ParseTime(value); err != nil || len(value) > maxValidator {
		return ""
	}
	return value
}

// ifRange returns the value of an If-Range header, "" if there is no validator that may
// be used in one (RFC 9110, section 13.1.5).
func (id Identity) ifRange() string {
	switch {
	case id.ETag != "":
		return id.ETag
	case id.DateStrong:
		return id.LastModified
	}
	return ""
}

// conditionOf is ifRange, but the date for a server that gives no strong ETag any more, and
// nothing for one that gives no validator and was adopted.
func conditionOf(o *Object) string {
	o.mu.Lock()
	adopted := slices.ContainsFunc(o.known, Identity{}.looksLike)
	o.mu.Unlock()
	switch {
	case adopted:
		return ""
	case o.byDate.Load():
		return o.id.LastModified
	}
	return o.id.ifRange()
}

// lostETag reports whether an answer to the condition of the ETag is all of the object because
// the server gives none any more, or a weak one: its date tells the version as well.
func lostETag(o *Object, resp *http.Response) bool {
	h := resp.Header
	lost := resp.StatusCode == http.StatusOK && o.id.ETag != "" && strongETag(h) == "" && o.id.DateStrong && lastModified(h) == o.id.LastModified
	if lost {
		o.byDate.Store(true)
	}
	return lost
}

// check compares the validators of an answer with the pinned ones. sure is true if equal
// strong ETags prove that it is the same object; the size is the caller's to compare.
func (id Identity) check(h http.Header) (sure bool, err error) {
	etag, date := strongETag(h), lastModified(h)
	switch {
	case id.ETag != "" && etag != "":
		if etag != id.ETag {
			return false, fmt.Errorf("%w: ETag %.80q, was %.80q", ErrChanged, etag, id.ETag)
		}
		return true, nil
	case id.LastModified != "" && date != "":
		if date != id.LastModified {
			return false, fmt.Errorf("%w: Last-Modified %q, was %q", ErrChanged, date, id.LastModified)
		}
	case id.Pinned():
		return false, fmt.Errorf("%w: it lacks the validators it had", ErrProtocol)
	}
	return false, nil
}
