package feed

import (
	"encoding/json"
	"net/url"
	"time"
)

// saved is what outlives the process.
type saved struct {
	Version      int        `json:"version"`
	URL          string     `json:"url"` // the key of the URL that was asked for
	FinalURL     string     `json:"final_url"`
	ETag         string     `json:"etag,omitempty"`
	LastModified string     `json:"last_modified,omitempty"`
	ContentType  string     `json:"content_type,omitempty"` // it may name the character set of Body
	From         string     `json:"from,omitempty"`
	Fetched      time.Time  `json:"fetched"`
	Body         []byte     `json:"body"`
	Names        *nameTable `json:"names"`
	maxAge       time.Duration
}

func (s saved) document() Document {
	return Document{Body: s.Body, ContentType: s.ContentType, FinalURL: s.FinalURL, From: s.From}
}

// load takes up what an earlier process saved. A damaged document is as good as none.
func (p *Poller) load() {
	if p.o.Load == nil {
		return
	}
	b, err := p.o.Load()
	if err != nil {
		return // the network has the feed
	}
	s := saved{Names: new(nameTable)}
	if err := json.Unmarshal(b, &s); err != nil || s.Version != 1 || s.URL != feedKey(p.o.URL) {
		p.o.Logger.Warn("saved feed is of no use", "url", p.url, "err", err)
		return
	}
	if s.Names != nil {
		p.names = s.Names
	}
	f, err := parse(s.document(), p.names)
	if err != nil {
		p.o.Logger.Warn("saved feed does not parse", "url", p.url, "err", err)
		return
	}
	p.feed, p.saved = f, s
	p.status.LastSuccess = s.Fetched
	p.status.describe(f)
}

// feedKey tells feeds apart in saved documents. It is a digest of the URL without
// its credentials.
func feedKey(s string) string {
	if u, err := url.Parse(s); err == nil {
		u.User = nil
		s = u.String()
	}
	return digest(s)
}

// save persists the last good feed. If that fails, the next process has to fetch it.
func (p *Poller) save(s saved) {
	if p.o.Save == nil {
		return
	}
	b, err := json.Marshal(s)
	if err == nil {
		err = p.o.Save(b)
	}
	if err != nil {
		p.o.Logger.Warn("last good feed not saved: a mount without network will not have it", "url", p.url, "err", err)
	}
}
