package mirror

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"vmcastfs/feed/show"
)

// maxMirrors is how many mirrors there may be.
const maxMirrors = 32

// credentials is the fragment of a mirror's URL that lets it see credentials.
const credentials = "credentials"

// A Set is the mirrors of a client. A nil Set has none.
type Set struct {
	mirrors []*Mirror
	lied    atomic.Pointer[func()]
}

// OnLie has fn called after each lie. It must not block.
func (s *Set) OnLie(fn func()) {
	if s != nil {
		s.lied.Store(&fn)
	}
}

// Parse makes a Set of URLs. One that ends with #credentials names a mirror that may see what
// the origins may see.
func Parse(list []string, log *slog.Logger) (*Set, error) {
	if len(list) == 0 {
		return nil, nil
	}
	s := &Set{}
	for _, raw := range list {
		u, err := CheckURL(raw)
		if err != nil {
			return nil, err
		}
		m := &Mirror{Credentials: u.Fragment == credentials, log: log, lied: &s.lied, refused: map[string]time.Time{}}
		u.Fragment, u.RawFragment = "", ""
		m.base, m.name = u, show.ParsedURL(u)
		if !slices.ContainsFunc(s.mirrors, func(o *Mirror) bool { return o.name == m.name }) {
			s.mirrors = append(s.mirrors, m)
		}
	}
	if len(s.mirrors) > maxMirrors {
		return nil, fmt.Errorf("%d mirrors, at most %d are possible", len(s.mirrors), maxMirrors)
	}
	return s, nil
}

// CheckURL parses the URL of a mirror. Errors do not quote it.
func CheckURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Opaque != "":
		return nil, errors.New("a mirror is an http or https address")
	case u.User != nil:
		return nil, errors.New("must not hold a password, everybody could see it in ps: write #" + credentials + " behind it, and use netrc=FILE")
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("the address of a mirror has no query")
	case u.Fragment != "" && u.Fragment != credentials:
		return nil, errors.New("only #" + credentials + " may follow the address of a mirror")
	}
	return u, nil
}

// Choose returns the mirror to ask for an object, nil for none. key names its archive: all
// hosts ask the same mirror for it, as long as that works. With lenient, because the origin
// fails, one that fails is better than none.
func (s *Set) Choose(key, origin string, lenient bool) *Mirror {
	if s == nil {
		return nil
	}
	now := time.Now()
	for _, lenient := range []bool{false, lenient} {
		var best *Mirror
		var most uint64
		for _, m := range s.mirrors {
			if !m.works(origin, lenient, now) {
				continue
			}
			if weight := xxhash.Sum64String(m.name + "\n" + key); best == nil || weight > most {
				best, most = m, weight
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// Status is that of each mirror, in the order of the option.
func (s *Set) Status() []Status {
	if s == nil {
		return nil
	}
	list := make([]Status, len(s.mirrors))
	for i, m := range s.mirrors {
		list[i] = m.status()
	}
	return list
}
