package cache

import (
	"context"
	"io"
	"time"
)

// What several processes over one directory owe each other: a block, or the
// stream of a server without ranges, is fetched by one of them. A claim is a
// hint: a process that is stopped or slow is not waited for.
const (
	// A job waits for one claimed block about a round trip: what a fetch of its
	// own would take, and what the other process takes to journal it.
	minClaimWait, maxClaimWait = 500 * time.Millisecond, 2 * time.Second
	// claimWaits is how many such waits one job affords in all, while blocks come.
	claimWaits = 4
	// A process that had to go ahead alone does not wait for claims of the file
	// for some time. The next time it is twice as long.
	minAlone, maxAlone = 2 * time.Second, 32 * time.Second
	// slowStream is what the stream of another process has to bring to be waited
	// for, in bytes a second.
	slowStream = 1 << 20
)

// tookTrip takes note of how long a demanded fetch took to its first block.
func (s *shared) tookTrip(d time.Duration) {
	old := s.trip.Load()
	s.trip.Store(old + (int64(d)-old)/8)
}

// claimWait is how long another process is waited for without progress.
func (s *shared) claimWait() time.Duration {
	wait := max(min(max(2*time.Duration(s.trip.Load()), minClaimWait), maxClaimWait), s.opts.patience)
	if most := s.opts.ClaimWait; most > 0 {
		wait = min(wait, most)
	}
	return wait
}

// claim marks the longest possible run of what is left as ours among all
// processes, and passes over blocks that have arrived from another one.
func (j *job) claim() (n int, claims []func()) {
	for n < len(j.left) {
		if n > 0 && j.copyOf(j.left[n]).file != nil {
			break // it need not be fetched
		}
		release, ok := j.fl.local.sf.Claim(j.left[n].b)
		if !ok {
			break
		}
		if j.fl.local.sf.Has(j.left[n].b) { // it came while we asked
			release()
			if n > 0 {
				break
			}
			if j.fromDisk(); len(j.left) == 0 {
				break
			}
			continue
		}
		claims = append(claims, release)
		n++
	}
	return n, claims
}

// claimAll is claim without regard to the claims of others.
func (j *job) claimAll() (n int, claims []func()) {
	claims = make([]func(), len(j.left))
	for n < len(j.left) && (n == 0 || j.copyOf(j.left[n]).file == nil) && !j.fl.local.sf.Has(j.left[n].b) {
		claims[n], _ = j.fl.local.sf.Claim(j.left[n].b)
		n++
	}
	if n == 0 {
		j.fromDisk()
	}
	return n, claims
}

// unclaim gives back claims that have not been yet.
func unclaim(claims []func()) {
	for i, release := range claims {
		if release != nil {
			release()
			claims[i] = nil
		}
	}
}

// awaitOther waits for the process that has claimed the first block. It reports
// false if the job shall go ahead alone.
func (j *job) awaitOther() bool {
	fl, begun := j.fl, time.Now()
	if j.patient <= 0 || begun.UnixNano() < fl.alone.Load() {
		return false
	}
	sf := fl.local.sf
	for moved := true; moved && j.patient > 0; {
		had, _ := sf.Present()
		step := min(j.patient, fl.s.claimWait())
		ctx, cancel := context.WithTimeout(j.ctx, step)
		err := sf.WaitClaim(ctx, j.left[0].b)
		cancel()
		if err == nil { // the block is here, or the claim is free
			j.patient -= time.Since(begun)
			fl.aloneFor.Store(0)
			j.fromDisk()
			return true
		}
		if j.ctx.Err() != nil {
			return false
		}
		j.patient -= step
		has, _ := sf.Present()
		moved = has > had
	}
	alone := min(max(2*time.Duration(fl.aloneFor.Load()), minAlone), maxAlone)
	fl.aloneFor.Store(int64(alone))
	fl.alone.Store(time.Now().Add(alone).UnixNano())
	return false
}

// fromDisk delivers the first block from the disk, where another process has
// put it; if it is not there after all, nothing happens.
func (j *job) fromDisk() {
	if j.fl.fromDisk(j.left[0]) {
		j.left = j.left[1:]
		j.progress.Add(1)
	}
}

// claimStream waits until this process may run the source of a server without
// ranges: one process takes its stream, the others get their blocks from the
// disk meanwhile. (Inflating twice costs no network, so other forward sources
// do not bother.) A process whose stream is slow or has stopped is not waited
// for.
//
// The claim is that of the last block, which others get only when all the
// blocks written before it have been journalled.
func (r *runner) claimStream() (release func()) {
	fl, sf := r.fl, r.fl.local.sf
	_, had := sf.Present()
	since := time.Now()
	for {
		token := fl.local.blocks() - 1
		release, ok := sf.Claim(token)
		left := fl.deliverPresent()
		if left == 0 || fl.tasks.Context().Err() != nil || ok {
			if !ok {
				release = func() {}
			}
			return release
		}
		if window := claimWaits * fl.s.claimWait(); time.Since(since) > window {
			_, has := sf.Present()
			if has-had < int64(slowStream*window.Seconds()) {
				return func() {}
			}
			had, since = has, time.Now()
		}
		ctx, cancel := context.WithTimeout(fl.tasks.Context(), 50*time.Millisecond)
		_ = sf.WaitClaim(ctx, token) // looked at again in any case
		cancel()
	}
}

// fromDisk delivers a block that another process has put on the disk.
func (fl *flights) fromDisk(f *flight) bool {
	buf, err := fl.local.stored(f.b)
	if err != nil {
		return false
	}
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if f.err != nil {
		buf.discard()
		return true
	}
	fl.handOver(f, buf)
	fl.remove(f)
	buf.release()
	return true
}

// deliverPresent delivers what is wanted and has been put on the disk by
// another process, and returns how many blocks are still wanted.
func (fl *flights) deliverPresent() (left int) {
	fl.mu.Lock()
	if n := fl.local.sf.Size(); n >= 0 && fl.local.size.Load() < 0 {
		fl.local.size.Store(n)
		fl.failFrom(fl.local.blocks(), io.EOF)
	}
	var wanted []*flight
	for _, f := range fl.table {
		if f.buf == nil {
			wanted = append(wanted, f)
		}
	}
	fl.mu.Unlock()
	for _, f := range wanted {
		if !fl.local.sf.Has(f.b) || !fl.fromDisk(f) {
			left++
		}
	}
	return left
}
