package remote

import (
	"errors"
	"fmt"
	"net/http"
	"time"
)

var (
	// ErrChanged: the object is no longer the one that was opened. It is final for an
	// [Object]; a new Open finds the new one.
	ErrChanged = errors.New("the object has changed on the server")
	// ErrNoRanges: the object is the same, and its server answers no ranges any more. A
	// new Open reads it as one stream, and so does [Rangeless].
	ErrNoRanges = errors.New("the server answers no ranges any more")
	// ErrNotFound: the server says that there is no such object (404 or 410).
	ErrNotFound = errors.New("no such object on the server")
	// ErrRefused: a rule of this package forbids the URL, redirect or address.
	ErrRefused = errors.New("refused")
	// ErrProtocol: the server's answer contradicts HTTP or what was asked for.
	ErrProtocol = errors.New("unusable answer")
	// ErrSecrets: a file with logins, a token or headers cannot be used now.
	ErrSecrets = errors.New("a file that an option names cannot be used")
	// ErrTooLarge: a document is larger than its limit.
	ErrTooLarge = errors.New("document too large")
)

var errClosed = errors.New("client closed")

// StatusError is an answer with a status that is no success.
type StatusError struct {
	Code int
	URL  string // without credentials

	retryAfter time.Duration // 0 if the server did not say
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s: status %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// RetryAfter returns how long the server asks to wait before the next request, 0 if it
// does not say. It is as the server wrote it: the caller bounds it.
func (e *StatusError) RetryAfter() time.Duration { return e.retryAfter }

// Temporary reports whether the server may answer otherwise soon.
func (e *StatusError) Temporary() bool {
	switch e.Code {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	case http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return false
	}
	return e.Code >= 500
}

// Is makes 404 and 410 match [ErrNotFound].
func (e *StatusError) Is(target error) bool {
	return target == ErrNotFound && (e.Code == http.StatusNotFound || e.Code == http.StatusGone)
}

// TemporaryError is a failure that another attempt might not meet: the network, a busy
// or broken server. Fetches return it when they give up.
type TemporaryError struct {
	URL string // without credentials
	Err error  // the last failure
}

func (e *TemporaryError) Error() string { return fmt.Sprintf("%s: %v", e.URL, e.Err) }

func (e *TemporaryError) Unwrap() error { return e.Err }

// Temporary is true.
func (e *TemporaryError) Temporary() bool { return true }
