package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"time"
)

// missingTime is how long the server of an object may answer 404 before a hard fetch of it
// ends. Files are missing for a while when a server is moved or its disk is mounted late.
const missingTime = time.Hour

// missedPause is how long nobody may have seen a 404 for the next to be the first again. What
// two looks saw that were hours apart says nothing of the time between them.
const missedPause = 10 * time.Minute

// A rally is where fetches meet that wait for the same to work again: an origin, or one
// object of it. The zero value is ready. It may be used concurrently.
type rally struct {
	mu    sync.Mutex    // guards all below; no other lock is taken under it
	scout bool          // one of those who wait is to try soon
	again chan struct{} // closed at the next good answer; nil while nobody asked
}

// over ends the waiting of all.
func (r *rally) over() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again != nil {
		close(r.again)
		r.again = nil
	}
}

// recovery returns a channel that is closed at the next good answer.
func (r *rally) recovery() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again == nil {
		r.again = make(chan struct{})
	}
	return r.again
}

// beScout reports whether the caller is now the one that tries soon.
func (r *rally) beScout() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scout {
		return false
	}
	r.scout = true
	return true
}

func (r *rally) endScout() {
	r.mu.Lock()
	r.scout = false
	r.mu.Unlock()
}

// IsLost reports whether an answer says that the URL is no good any more: the object was
// withdrawn, or the URL was signed and has expired.
func IsLost(err error) bool {
	status, ok := errors.AsType[*StatusError](err)
	if !ok {
		return false
	}
	switch status.Code {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusGone:
		return true
	}
	return false
}

// deniesAccess reports whether other credentials may help.
func deniesAccess(err error) bool {
	if status, ok := errors.AsType[*StatusError](err); ok {
		switch status.Code {
		case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
			return true
		}
		return false
	}
	return isCertificate(err)
}

// isCertificate reports whether a certificate was refused, by either side.
func isCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok
}

// notValidNow reports whether a certificate is refused for its time alone: the clock of a
// machine that has just started may be wrong.
func notValidNow(err error) bool {
	bad, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && bad.Reason == x509.Expired
}

// lasting reports whether a hard fetch of an object that has been served ends with err.
// Everything else may pass: a login that has expired, a page in place of the object, a
// certificate that is not valid now.
func (o *Object) lasting(err error) bool {
	for _, end := range []error{ErrChanged, errClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, end) {
			return true
		}
	}
	status, ok := errors.AsType[*StatusError](err)
	if !ok || status.Code != http.StatusGone && status.Code != http.StatusNotFound {
		return false
	}
	o.mu.Lock()
	now := time.Now()
	if !o.gone && (o.missing.IsZero() || now.Sub(o.missed) > missedPause) {
		o.missing = now
	}
	o.missed = now
	gone := status.Code == http.StatusGone || now.Sub(o.missing) > missingTime
	tell := gone && !o.gone
	o.gone = gone
	o.mu.Unlock()
	if tell {
		o.client.options.Logger.Warn("object is gone from the server", "url", o.shown, "err", err)
	}
	return gone
}

// waits records that fetches of the object wait for another answer than err.
func (o *Object) waits(err error) {
	o.mu.Lock()
	now := time.Now()
	if o.waiting.IsZero() {
		o.waiting = now
	}
	tell := !o.told && (o.spoke.IsZero() || now.Sub(o.spoke) >= logPause)
	if tell {
		o.told, o.spoke = true, now
	}
	since, raw := o.waiting, o.raw
	o.mu.Unlock()
	o.client.setWaiting(raw, since)
	if tell {
		o.client.options.Logger.Warn("reads wait for the server to give the object again", "url", o.shown, "err", err)
	}
}

// answered records a good answer, which ends all waiting for one.
func (o *Object) answered(p pin) {
	o.heard.Store(false)
	o.mu.Lock()
	waited, tell, raw := !o.waiting.IsZero(), o.told, o.raw
	o.missing, o.waiting, o.gone, o.told = time.Time{}, time.Time{}, false, false
	if p != rangeless {
		o.whole = time.Time{}
	}
	o.mu.Unlock()
	if waited {
		o.client.setWaiting(raw, time.Time{})
	}
	if tell {
		o.client.options.Logger.Info("the server gives the object again", "url", o.shown)
	}
	o.rally.over()
}

// setWaiting records since when fetches of what is at a URL wait; the zero time: they do not.
func (c *Client) setWaiting(raw string, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if since.IsZero() {
		delete(c.waiting, raw)
		return
	}
	for old := range c.waiting {
		if len(c.waiting) < maxOrigins {
			break
		}
		delete(c.waiting, old)
	}
	c.waiting[raw] = since
}
