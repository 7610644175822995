package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"vmcastfs/cache/source"
)

// rangelessTime is how long a server may answer without ranges before that counts. One
// answer may be that of a proxy that is being restarted.
const rangelessTime = 5 * time.Second

// Rangeless returns the object as [Object.OneStream] does, though it has been served in
// ranges: for one whose Fetch says [ErrNoRanges].
func Rangeless(o *Object) source.Forward {
	return source.NewForward(func(ctx context.Context, off, n int64, u source.Urgency) (io.ReadCloser, error) {
		return o.fetch(ctx, off, n, u, rangeless)
	}, func(int64) int64 { return 0 })
}

// rangesLost records an answer without ranges, and tells whether there have been no others
// for so long that the server has none any more.
func rangesLost(o *Object) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.whole.IsZero() {
		o.whole = time.Now()
	}
	return time.Since(o.whole) >= rangelessTime
}

// checkRangeOrWhole is Object.checkRange, but tells an answer that is all of the object by
// [ErrNoRanges].
func (s *stream) checkRangeOrWhole(resp *http.Response) (until int64, err error) {
	o := s.object
	until, err = o.checkRange(resp, s.off, s.end, s.pin)
	if err == nil || resp.ContentLength != o.id.Size || o.checkWhole(resp, pinned) != nil {
		return until, err
	}
	// Without its ETag it may be the answer to a condition that has failed.
	if sure, _ := o.id.check(resp.Header); sure || (o.id.ETag == "" || o.byDate.Load()) && o.id.Pinned() {
		err = ErrNoRanges
	}
	return until, err
}

// refusedRange adds ErrNoRanges to a status that refuses nothing but the range. A hard fetch
// asks for the whole once to tell that.
func (s *stream) refusedRange(err error) error {
	status, ok := errors.AsType[*StatusError](err)
	if !ok || !refusesRange(status.Code) || !s.retry.options.Hard {
		return err
	}
	if !s.asked {
		s.asked, s.lost = true, errors.Is(s.object.Check(s.ctx), ErrNoRanges)
	}
	if s.lost {
		return fmt.Errorf("%w: %w", ErrNoRanges, err)
	}
	return err
}
