package feed

import (
	"errors"
	"fmt"
	"time"
	"vmcastfs/feed/show"
)

// Limits on what [Parse] accepts. They are far above what an honest feed
// needs. Whatever lies beyond them is refused or left out.
const (
	MaxBody  = 16 << 20 // bytes of a feed document, after decompression
	MaxItems = 20000    // items shown; of more, the newest are shown, with a warning
	MaxDepth = 64       // nested XML elements

	maxListed     = 1 << 19   // items at all: MaxBody has no room for more that have a package
	maxCost       = 1_000_000 // of all items kept, in tokens and attributes or JSON values, see xmlItem.cost
	maxItemCost   = 32_000    // of one item
	maxOutside    = 20_000    // XML tokens and attributes outside of items
	maxOutBytes   = 1 << 20   // bytes outside of items
	maxEdits      = 1 << 20   // stretches left out or written anew
	maxItemBytes  = 512 << 10 // bytes of one item
	maxAttrs      = 64        // attributes of one element
	maxNamespaces = 64        // xmlns declarations in scope at one point
	maxWarnings   = 100       // warnings kept per feed
	maxURL        = 8192      // bytes of an enclosure URL
	maxTitle      = 1024      // bytes of a title
	maxID         = 1024      // bytes of an id taken as it is; a longer one is hashed
	maxNotes      = 64 << 10  // bytes of release notes
	maxEnclosures = 256       // enclosures of one item that are looked at
	maxAlternates = 16        // further packages of one item
)

// Errors that [Parse] and the [Poller] wrap. None of them ever replaces the
// last good feed.
var (
	errTooLarge   = errors.New("feed is too large")
	ErrHTML       = errors.New("this is an HTML page (a login page, a captive portal?), not a feed")
	ErrNotFeed    = errors.New("this is not an RSS, Atom or JSON feed")
	errEntities   = errors.New("feed declares XML entities")
	errTooDeep    = errors.New("feed is nested too deeply")
	errCharset    = errors.New("feed is not in a character set that can be read")
	ErrNoReleases = errors.New("feed holds no release that can be used")
	errDowngrade  = errors.New("feed asked for over https was answered over an insecure connection")
)

// syntaxError says where a feed stops being well-formed.
type syntaxError struct {
	Offset int64 // bytes from the start of the document in UTF-8
	Err    error
}

func (e *syntaxError) Error() string {
	return fmt.Sprintf("feed is malformed near byte %d: %s", e.Offset, show.Text(e.Err.Error()))
}

func (e *syntaxError) Unwrap() error { return e.Err }

// Document is a feed as it was fetched.
type Document struct {
	Body         []byte        // after transfer decoding; nil if NotModified
	ContentType  string        // of the HTTP header, "" if there is none: it may name the character set
	ETag         string        // validators for the next fetch, "" if none
	LastModified string        //
	FinalURL     string        // after redirects; "": the one asked for
	NotModified  bool          // the document that is known already still holds
	From         string        // who answered, in the words of the fetch: it comes to [Feed.From], over restarts too
	MaxAge       time.Duration // how long the server calls it fresh; 0: it does not say
}

// Feed is one document, parsed. It is not changed once returned.
type Feed struct {
	Title    string    // sanitised
	Format   string    // "rss", "atom" or "json"
	Built    time.Time // when the feed says that it was made last, UTC; zero: it does not
	Releases []Release // newest first
	Warnings []string  // sanitised; at most 101, the last then counts the rest
	From     string    // of the document, see [Document]; "" if not known

	ttl  time.Duration // the channel's; 0: none. At most maxInterval
	skip skipTimes     // the channel's skipHours and skipDays
}

// Release is one item with a package.
type Release struct {
	ID         string    // guid, Atom or JSON id, rdf:about, uuid, else derived from the URL; as written, printable, ≤ 1024 bytes, unique in a feed
	FormerID   string    // the id that versions which took Atom's ids for URLs, or knew no rdf:about, gave it; else ""
	Name       string    // directory name, one path component, for good
	Title      string    // sanitised, one line, ≤ 1024 bytes; may be empty
	Published  time.Time // UTC; zero: unknown
	Updated    time.Time // UTC; zero: unknown
	URL        string    // of the package: absolute; http, https or, in a local feed, file
	Length     int64     // bytes as the feed claims them: advice only; 0: unknown
	Type       string    // MIME type as the feed claims it: lower case, no parameters
	SHA256     string    // of the package as it is served, in lower-case hex, as the feed claims it; "": it does not
	Alternates []string  // the item's other packages, best first
	NotesHTML  string    // release notes as a harmless HTML fragment, ≤ 64 KiB
}
