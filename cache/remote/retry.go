package remote

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
	"vmcastfs/feed/show"

	"github.com/cenkalti/backoff/v5"
)

const (
	// maxUnusable is how many unusable answers in a row are final for soft fetches, and for
	// Open: the server is there, and waiting will not teach it HTTP.
	maxUnusable = 3
	// goodProgress is how many bytes make up for the failures before them.
	goodProgress = 64 << 10
	// scoutPause bounds the pause of one retry per failing origin, before up to as much
	// again of jitter: the scout, whose success wakes the others.
	scoutPause = 2 * time.Second
	// wakeShare is the part of a pause that passes even if the origin recovers. An object
	// that fails alone on a busy origin is not asked for at the rate at which others succeed.
	wakeShare = 8
)

var (
	errStalled = errors.New("the server sends nothing")
	errSilent  = errors.New("the server pauses in a body")
	errTimeo   = errors.New("gave up")
)

// A retry decides, failure by failure, whether one operation goes on.
type retry struct {
	url     string // for messages
	options *Options
	backoff *backoff.ExponentialBackOff
	soft    *watch  // nil when hard
	object  *Object // that has been served; nil while it is being opened

	unusable int
	refused  int // refusals for the number of requests, in a row
	got      int64
	last     error
}

// newRetry begins an operation, which cancel ends.
func (c *Client) newRetry(r *route, cancel context.CancelCauseFunc) *retry {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = c.options.RetryMin, c.options.RetryMax
	b.Multiplier, b.RandomizationFactor = 2, 0.5
	b.Reset()
	retry := &retry{url: show.ParsedURL(r.url), options: &c.options, backoff: b}
	if !c.options.Hard {
		retry.soft = newWatch(cancel, c.options.Timeo, errTimeo)
	}
	return retry
}

// progress says that n bytes have arrived; it reports whether that is enough to forget the
// failures before.
func (r *retry) progress(n int) bool {
	if r.got += int64(n); r.got < goodProgress {
		return false
	}
	r.got, r.unusable, r.refused = 0, 0, 0
	r.backoff.Reset()
	return true
}

// failed decides what follows err, an answer or the silence of p. It pauses and returns nil
// for another attempt, or returns the final error.
func (r *retry) failed(ctx context.Context, p *peer, err error) error {
	if ctx.Err() != nil {
		return r.ended(ctx, err)
	}
	at := &p.rally
	if r.object != nil && r.options.Hard {
		if r.object.lasting(err) {
			return r.wrap(err)
		}
		if unusable(err) || !temporary(err) {
			r.object.waits(err) // for an answer, and not for the server
			at = &r.object.rally
		}
	} else if unusable(err) {
		if r.unusable++; r.unusable >= maxUnusable {
			return r.wrap(err)
		}
	} else if !temporary(err) {
		return r.wrap(err)
	}
	r.last = err
	pause := r.backoff.NextBackOff()
	asked, limited := time.Duration(0), false
	if status, ok := errors.AsType[*StatusError](err); ok {
		asked = min(status.retryAfter, r.options.RetryAfterMax)
		limited = status.Code == http.StatusTooManyRequests
		if refuses(status.Code) {
			r.refused++
		}
	}
	recovered := at.recovery()
	switch {
	case asked > 0:
		pause = max(pause, asked)
		if limited {
			recovered = nil // that others are served does not lift a limit on us
		}
	case pause > scoutPause && at.beScout():
		defer at.endScout()
		pause = min(pause, scoutPause+rand.N(scoutPause))
	}
	r.options.Logger.Debug("retrying", "url", r.url, "pause", pause, "err", err)
	begun := time.Now()
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			return nil
		case <-recovered:
			recovered = nil
			timer.Reset(max(0, pause/wakeShare-time.Since(begun)))
		case <-ctx.Done():
			return r.ended(ctx, err)
		}
	}
}

// ended says why the operation's context did.
func (r *retry) ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause != errTimeo {
		return cause
	}
	if errors.Is(err, errTimeo) {
		if err = r.last; err == nil {
			err = errStalled
		}
	}
	return &TemporaryError{r.url, fmt.Errorf("gave up after %v: %w", r.options.Timeo, err)}
}

func (r *retry) wrap(err error) error {
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status
	}
	return fmt.Errorf("%s: %w", r.url, err)
}

// unusable reports whether an answer came that is of no use.
func unusable(err error) bool { return errors.Is(err, ErrProtocol) || errors.Is(err, ErrNoRanges) }

// temporary reports whether the failure is one of the network or of a busy or broken server.
// Certificates that do not verify and statuses that are answers (4xx) are not temporary. They
// end soft fetches and Open at once; [Object.lasting] says what ends a hard fetch.
func temporary(err error) bool {
	for _, final := range []error{ErrChanged, ErrRefused, errClosed, ErrTooLarge, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, final) {
			return false
		}
	}
	if status, ok := errors.AsType[*StatusError](err); ok {
		return status.Temporary()
	}
	return !isCertificate(err)
}

// sortError gives errors of net/http that have no type of their own the meaning they have.
func sortError(err error) error {
	if err == nil || errors.Is(err, ErrProtocol) {
		return err
	}
	message := err.Error()
	for _, part := range []string{"response header", "malformed HTTP", "malformed MIME"} {
		if strings.Contains(message, part) {
			return fmt.Errorf("%w: %s", ErrProtocol, show.Clip(message, 200))
		}
	}
	return err
}

// statusError makes the error of an answer that is no success.
func statusError(resp *http.Response, url string) *StatusError {
	return &StatusError{Code: resp.StatusCode, URL: url, retryAfter: retryAfter(resp.Header)}
}

// retryAfter reads seconds or a date (RFC 9110, section 10.2.3); 0 if there is neither. The
// date is seen from the server's clock, if it tells that: ours may be wrong.
func retryAfter(h http.Header) time.Duration {
	value := h.Get("Retry-After")
	if seconds, _ := strconv.ParseFloat(value, 64); seconds > 0 { // also fractions, and what is too large for a number
		return time.Duration(min(seconds, math.MaxInt32) * float64(time.Second))
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		now = time.Now()
	}
	return max(0, date.Sub(now))
}
