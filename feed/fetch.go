package feed

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"runtime/debug"
	"time"
	"vmcastfs/feed/show"
)

// fetch returns the feed to hold from now on: old itself if nothing has changed.
func (p *Poller) fetch(ctx context.Context, old *Feed, last saved) (f *Feed, next saved, err error) {
	defer func() {
		// A fault in the parser must not end the process that serves the mount.
		if r := recover(); r != nil {
			p.o.Logger.Error("panic while reading a feed", "panic", r, "stack", string(debug.Stack()))
			f, next, err = nil, last, fmt.Errorf("internal error: %v", r)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, p.o.Timeout)
	defer cancel()
	if old == nil {
		last = saved{}
	}
	doc, err := p.o.Fetch(ctx, p.o.URL, last.ETag, last.LastModified)
	if err == nil && doc != nil && doc.NotModified && doc.From != last.From {
		// Another party answers than the one that gave the feed. Its word for
		// "not modified" counts for nothing: it need only know the validators.
		doc, err = p.o.Fetch(ctx, p.o.URL, "", "")
	}
	switch {
	case err != nil:
		return nil, last, err
	case doc == nil:
		return nil, last, errors.New("nothing was fetched")
	case doc.NotModified && old == nil:
		return nil, last, errors.New("server says that the feed has not changed, though it was never fetched")
	case doc.NotModified:
		last.maxAge = doc.MaxAge
		return old, last, nil
	}
	final := doc.FinalURL
	if final == "" {
		final = p.o.URL
	}
	if err := checkFinal(p.o.URL, final); err != nil {
		return nil, last, err
	}
	next = saved{
		Version: 1, URL: feedKey(p.o.URL), FinalURL: withoutUser(final), ETag: doc.ETag, LastModified: doc.LastModified,
		ContentType: doc.ContentType, From: doc.From, Fetched: time.Now(), Body: doc.Body, Names: p.names, maxAge: doc.MaxAge,
	}
	if old != nil && string(doc.Body) == string(last.Body) && next.FinalURL == last.FinalURL && next.From == last.From && next.ContentType == last.ContentType {
		return old, next, nil
	}
	f, err = parse(next.document(), p.names)
	if err != nil {
		return nil, last, err
	}
	if old != nil && len(old.Releases) > 0 && len(f.Releases) == 0 {
		return nil, last, fmt.Errorf("%w, while the last good one held %d", ErrNoReleases, len(old.Releases))
	}
	f.compare(old)
	return f, next, nil
}

// checkFinal refuses an answer over http where https was asked for, and one from
// a URL of another scheme.
func checkFinal(asked, final string) error {
	a, err1 := parseBase(asked)
	f, err2 := parseBase(final)
	switch {
	case err1 != nil || err2 != nil:
		return errors.New("feed was redirected to a malformed URL")
	case a.Scheme == "https" && f.Scheme != "https":
		return errDowngrade
	case a.Scheme != "file" && f.Scheme != "http" && f.Scheme != "https":
		return fmt.Errorf("feed was redirected to a URL of scheme %q", show.Text(show.Clip(f.Scheme, 20)))
	}
	return nil
}

func withoutUser(s string) string {
	if u, err := url.Parse(s); err == nil && u.User != nil {
		u.User = nil
		return u.String()
	}
	return s
}

// compare warns of releases whose package is at another URL now, or of another size.
func (f *Feed) compare(old *Feed) {
	if old == nil {
		return
	}
	was := make(map[string]*Release, len(old.Releases))
	for i := range old.Releases {
		was[old.Releases[i].ID] = &old.Releases[i]
	}
	changed := 0
	for i := range f.Releases {
		if o := was[f.Releases[i].ID]; o != nil && (o.URL != f.Releases[i].URL || o.Length != f.Releases[i].Length) {
			if changed++; changed <= 10 {
				f.warn("release %s has a new package under its old id", show.Clip(f.Releases[i].label(), 80))
			}
		}
	}
	if changed > 10 {
		f.warn("and %d more releases", changed-10)
	}
}
