package catalog

import (
	"sync"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
)

// A look is what only the disk can tell for a Status: the size of the cache, and
// what the trust state has against a release. It is immutable.
type look struct {
	after activity // what had happened by then
	cache store.Stats
	seen  map[*Release]seen
}

// activity is what this process has done to the cache, in bytes, and when anybody
// last changed what has to stay.
type activity struct{ fetched, evicted, held int64 }

// seen is what the trust state says of a release with this verdict.
type seen struct {
	verdict        *xvm.Verdict
	alarm, refusal string
}

// at is what was seen of a release, or what there is to see if nobody looked yet.
func (l *look) at(r *Release, p *bundle.Package) seen {
	v := p.Verdict()
	if s, ok := l.seen[r]; ok && s.verdict == v {
		return s
	}
	return seen{v, r.around.sentry.alarm(presented(r, v), v), p.Refusal()}
}

// statusFile is the content of status.json: one for all that ask at about a time.
// It is made from memory and from the last look.
//
// mu guards what follows it. It is held while the content is waited for and made,
// and comes before all other locks of this room and those below.
type statusFile struct {
	mu     sync.Mutex
	made   time.Time     // when making it began
	took   time.Duration // to make it
	raw    []byte
	last   *look
	asking chan struct{} // holds a token: a look is wanted
}
