package feed

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"vmcastfs/feed/show"

	"github.com/mmcdole/gofeed"
	ext "github.com/mmcdole/gofeed/extensions"
	"github.com/mmcdole/gofeed/rss"
)

// Parse reads a feed document: RSS 2.0 and its predecessors, Atom, JSON Feed,
// and the dialects of Enomalism and Archipel (the package documentation tells
// what is done for them). Of the document it needs Body, FinalURL, which may also
// be the path of a local file, and ContentType. Relative enclosure URLs are
// resolved against FinalURL. Releases get the names that a first look gives them.
//
// Items that cannot be used are left out, each with a warning. A feed without
// any item is valid and empty. A feed with items of which none can be used is an
// error that wraps [ErrNoReleases].
//
// Parse reads neither files nor network, and does not keep the document. Any
// number of calls may run at once.
func Parse(doc Document) (*Feed, error) { return parse(doc, new(nameTable)) }

// parse is Parse, with names for the releases. After an error names is as it was.
func parse(d Document, names *nameTable) (*Feed, error) {
	if len(d.Body) > MaxBody {
		return nil, fmt.Errorf("%w: more than %d MiB", errTooLarge, MaxBody>>20)
	}
	base, err := parseBase(d.FinalURL)
	if err != nil {
		return nil, err
	}
	doc, warning, err := toUTF8(d.Body, d.ContentType)
	if err != nil {
		return nil, err
	}
	if len(doc) > MaxBody {
		return nil, fmt.Errorf("%w: more than %d MiB in UTF-8", errTooLarge, MaxBody>>20)
	}
	f := &Feed{From: d.From}
	if warning != "" {
		f.Warnings = append(f.Warnings, warning)
	}
	src, err := f.decode(doc, base)
	if err != nil {
		return nil, err
	}
	if err := f.fill(src, base); err != nil {
		return nil, err
	}
	names.assign(f.Releases)
	f.capWarnings()
	return f, nil
}

// parseBase takes a URL, or an absolute path as a file: URL.
func parseBase(base string) (*url.URL, error) {
	if strings.HasPrefix(base, "/") {
		return &url.URL{Scheme: "file", Path: base}, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, errors.New("feed URL is malformed")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	u.User = nil // the feed's own credentials are not for its enclosures
	return u, nil
}

// decode brings a document through guard and parser. A malformed one is tried
// once more after repair.
func (f *Feed) decode(doc []byte, base *url.URL) (*gofeed.Feed, error) {
	doc = bytes.TrimSpace(doc)
	guard := guardXML
	switch {
	case len(doc) > 0 && doc[0] == '{':
		guard = func(doc []byte, _ *url.URL) ([]byte, []string, error) { return guardJSON(doc) }
	case len(doc) == 0:
		return nil, fmt.Errorf("%w: it is empty", ErrNotFeed)
	case doc[0] != '<':
		return nil, ErrNotFeed
	}
	src, warnings, err := guarded(guard, doc, base)
	if syntax := (*syntaxError)(nil); errors.As(err, &syntax) && doc[0] == '<' {
		if fixed := repair(doc); fixed != nil && len(fixed) <= 2*MaxBody {
			var err2 error
			if src, warnings, err2 = guarded(guard, fixed, base); err2 == nil {
				err = nil
				warnings = append(warnings, "feed is malformed and was repaired: text is not escaped")
			}
		}
	}
	f.Warnings = append(f.Warnings, warnings...)
	return src, err
}

func guarded(guard func([]byte, *url.URL) ([]byte, []string, error), doc []byte, base *url.URL) (*gofeed.Feed, []string, error) {
	doc, warnings, err := guard(doc, base)
	if err != nil {
		return nil, nil, err
	}
	src, err := runParser(doc)
	return src, warnings, err
}

// runParser is gofeed. A panic in there would end the mount: it becomes an error
// of the feed.
func runParser(doc []byte) (src *gofeed.Feed, err error) {
	defer func() {
		if p := recover(); p != nil {
			src, err = nil, &syntaxError{0, fmt.Errorf("the parser failed: %v", p)}
		}
	}()
	p := gofeed.NewParser()
	p.KeepOriginalFeed = true // the universal form has no ttl
	p.RSSTranslator = &gofeed.DefaultRSSTranslator{DisableContentImageScan: true}
	src, err = p.Parse(bytes.NewReader(doc))
	switch {
	case errors.Is(err, gofeed.ErrFeedTypeNotDetected):
		return nil, ErrNotFeed
	case err != nil:
		return nil, &syntaxError{int64(len(doc)), err}
	}
	return src, nil
}

// fill makes releases of items.
func (f *Feed) fill(src *gofeed.Feed, base *url.URL) error {
	f.Title = show.Text(src.Title)
	f.Format = src.FeedType
	f.Built, _ = parseDate(src.Updated)
	if r, ok := src.OriginalFeed().(*rss.Feed); ok {
		f.ttl = parseTTL(r.TTL)
		f.skip = parseSkip(r.SkipHours, r.SkipDays)
	}
	var first error // why the first unusable item is unusable
	now := time.Now()
	f.Releases = make([]Release, 0, len(src.Items))
	for n, item := range src.Items {
		r, note, err := release(item, base)
		switch {
		case f.Format == "atom":
			r.FormerID = formerID(r.ID)
		case f.Format == "rss" && src.FeedVersion == "1.0" && r.URL != "":
			r.FormerID = urlID(r.URL)
		}
		what := fmt.Sprintf("item %d (%s)", n+1, show.Clip(r.label(), 80))
		switch {
		case err != nil:
			f.warn("%s is left out: %s", what, err)
			if first == nil {
				first = fmt.Errorf("%s: %w", what, err)
			}
			continue
		case note != "":
			f.warn("%s: %s", what, note)
		case r.Published.IsZero() && item.Published != "":
			f.warn("%s: its date %q is not understood", what, show.Text(show.Clip(item.Published, 60)))
		case Ahead(r.Published, now):
			f.warn("%s is dated in the future, and is not the newest release before that: %s", what, r.Published.Format(time.RFC3339))
		}
		f.Releases = append(f.Releases, r)
	}
	f.order()
	if len(f.Releases) == 0 && len(src.Items) > 0 {
		return fmt.Errorf("%w: none of its %d items; the first, %w", ErrNoReleases, len(src.Items), first)
	}
	return nil
}

// order sorts newest first: by date of publication, then of update, then as
// the feed has them. Undated releases come last. Of releases with the same id the
// first one stays.
func (f *Feed) order() {
	slices.SortStableFunc(f.Releases, func(a, b Release) int {
		if c := b.Published.Compare(a.Published); c != 0 {
			return c
		}
		return b.Updated.Compare(a.Updated)
	})
	seen := make(map[string]bool, len(f.Releases))
	f.Releases = slices.DeleteFunc(f.Releases, func(r Release) bool {
		if seen[r.ID] {
			f.warn("release %s is left out: a newer one has the same id", show.Clip(r.label(), 80))
			return true
		}
		seen[r.ID] = true
		return false
	})
}

// Ahead tells a date that lies more than a day in the future. Until it comes, a
// release of that date is not the newest one: a publisher's mistake in writing must
// not stay the newest release for ever.
func Ahead(published, now time.Time) bool { return published.After(now.Add(24 * time.Hour)) }

// Newest is the newest release; the zero Release if there is none. If all are of dates
// ahead, it is the first of them: rather the clock is wrong then.
func (f *Feed) Newest(now time.Time) (newest Release) {
	for _, r := range f.Releases {
		if !Ahead(r.Published, now) {
			return r
		}
	}
	if len(f.Releases) > 0 {
		newest = f.Releases[0]
	}
	return newest
}

// NewestUntil is when another release is going to be the newest one, by its date ahead; zero:
// not by itself.
func (f *Feed) NewestUntil(now time.Time) (until time.Time) {
	for _, r := range f.Releases {
		if !Ahead(r.Published, now) {
			break
		}
		until = r.Published.Add(-24 * time.Hour)
	}
	return until
}

// release reads one item. note is a warning that does not keep it out.
func release(item *gofeed.Item, base *url.URL) (r Release, note string, err error) {
	r = Release{
		Title: show.Text(item.Title), // the guards made it plain and short
	}
	r.Published, _ = parseDate(item.Published)
	r.Updated, _ = parseDate(item.Updated)
	if r.Published.IsZero() {
		r.Published = r.Updated
	}
	found, err := choose(item.Enclosures, base)
	if len(found) == 0 {
		return r, "", err
	}
	best := found[0]
	r.URL, r.Length, r.Type, r.SHA256 = best.url, best.length, best.mime, best.sha256
	for _, e := range found[1:] {
		r.Alternates = append(r.Alternates, e.url)
	}
	r.ID = identify(item, r.URL)
	notes := item.Description
	if strings.TrimSpace(notes) == "" {
		notes = item.Content
	}
	r.NotesHTML = sanitizeHTML(notes)
	return r, best.note, nil
}

// label is what warnings call a release.
func (r *Release) label() string {
	if r.Title != "" {
		return r.Title
	}
	if r.ID != "" {
		return r.ID
	}
	return "untitled"
}

// identify returns the id of an item as it is written: its guid (Atom's and JSON
// Feed's id, rdf:about of RSS 1.0), or the uuid of Enomalism and Archipel. An item
// without one has the digest of its package's URLKey.
func identify(item *gofeed.Item, packageURL string) string {
	return cmp.Or(plainID(item.GUID), printableID(uuid(item)), urlID(packageURL))
}

func urlID(packageURL string) string { return "sha256:" + digest(URLKey(packageURL)) }

// formerID is [Release.FormerID] for an id of Atom.
func formerID(id string) string {
	u, err := url.Parse(id)
	if err != nil || u.String() == id {
		return ""
	}
	return printableID(u.String())
}

// uuid finds <uuid> in an item, with or without a namespace, in any case.
func uuid(item *gofeed.Item) string {
	for name, value := range item.Custom {
		if strings.EqualFold(name, "uuid") {
			return value
		}
	}
	var found []string
	for _, elements := range item.Extensions {
		for name, list := range elements {
			if strings.EqualFold(name, "uuid") {
				found = append(found, values(list)...)
			}
		}
	}
	slices.Sort(found) // maps have no order
	if len(found) == 0 {
		return ""
	}
	return found[0]
}

func values(list []ext.Extension) (v []string) {
	for _, e := range list {
		if e.Value != "" {
			v = append(v, e.Value)
		}
	}
	return v
}

// plainTitle is the text of a title that may be HTML, in one line.
func plainTitle(s string) string { return show.Clip(plainText(show.Clip(s, 8*maxTitle)), maxTitle) }

// parseTTL reads a ttl in minutes; nonsense is none.
func parseTTL(s string) time.Duration {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil || n <= 0 {
		return 0
	}
	return time.Duration(min(n, int64(maxInterval/time.Minute))) * time.Minute
}

func (f *Feed) warn(format string, args ...any) {
	f.Warnings = append(f.Warnings, fmt.Sprintf(format, args...))
}

// capWarnings keeps the first warnings and counts the others.
func (f *Feed) capWarnings() {
	if n := len(f.Warnings); n > maxWarnings {
		f.Warnings = append(f.Warnings[:maxWarnings:maxWarnings], fmt.Sprintf("and %d more", n-maxWarnings))
	}
}
