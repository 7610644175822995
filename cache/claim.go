package cache

import (
	"context"
	"io"
	"time"
)

// What several processes over one directory owe each other: a block, or the
// stream of a server without ranges, is fetched by one of them.

// claim marks the longest possible run of what is left as ours among all
// processes, and passes over blocks that have arrived from another one.
func (j *job) claim() (n int, claims []func()) {
	for n < len(j.left) {
		if n > 0 && j.copyOf(j.left[n]).file != nil {
			break // it need not be fetched
		}
		release, ok := j.f.sf.Claim(j.left[n].b)
		if !ok {
			break
		}
		if j.f.sf.Has(j.left[n].b) { // it came while we asked
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

// unclaim gives back claims that have not been yet.
func unclaim(claims []func()) {
	for i, release := range claims {
		if release != nil {
			release()
			claims[i] = nil
		}
	}
}

// fromDisk delivers the first block from the disk, where another process has
// put it; if it is not there after all, nothing happens.
func (j *job) fromDisk() {
	if j.f.fromDisk(j.left[0]) {
		j.left = j.left[1:]
		j.progress.Add(1)
	}
}

// fromDisk delivers a block that another process has put on the disk.
func (f *content) fromDisk(e *entry) bool {
	buf := f.c.buffers.get(f.blockLen(e.b))
	if _, err := f.sf.ReadBlock(e.b, buf.data); err != nil {
		buf.discard()
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.err != nil {
		buf.discard()
		return true
	}
	f.handOver(e, buf)
	f.remove(e)
	buf.release()
	return true
}

// claimRunner waits until this process may run the source of a server without
// ranges: one process takes its stream, the others get their blocks from the
// disk meanwhile. (Inflating twice costs no network, so other forward sources
// do not bother.) A process that makes no progress is not waited for.
//
// The claim is that of the last block, which others get only when all the
// blocks written before it have been journalled.
func (f *content) claimRunner() (release func()) {
	last, since := int64(-1), time.Now()
	for {
		token := f.blocks() - 1
		release, ok := f.sf.Claim(token)
		if f.deliverPresent() == 0 || f.ctx.Err() != nil || ok {
			if !ok {
				release = func() {}
			}
			return release
		}
		if n, _ := f.sf.Present(); n != last {
			last, since = n, time.Now()
		} else if time.Since(since) > f.c.opts.ClaimWait {
			return func() {}
		}
		ctx, cancel := context.WithTimeout(f.ctx, 50*time.Millisecond)
		_ = f.sf.WaitClaim(ctx, token) // looked at again in any case
		cancel()
	}
}

// deliverPresent delivers what is wanted and has been put on the disk by
// another process, and returns how many blocks are still wanted.
func (f *content) deliverPresent() (left int) {
	f.mu.Lock()
	if n := f.sf.Size(); n >= 0 && f.size.Load() < 0 {
		f.size.Store(n)
		f.failFrom(f.blocks(), io.EOF)
	}
	var wanted []*entry
	for _, e := range f.flight {
		if e.buf == nil {
			wanted = append(wanted, e)
		}
	}
	f.mu.Unlock()
	for _, e := range wanted {
		if !f.sf.Has(e.b) || !f.fromDisk(e) {
			left++
		}
	}
	return left
}
