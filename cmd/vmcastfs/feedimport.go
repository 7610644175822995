package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"html"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"vmcastfs/cache/remote"
	"vmcastfs/feed"
	"vmcastfs/feed/catalogue"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// imported is what an import did, as --json prints it.
type imported struct {
	Catalogue string   `json:"catalogue"`
	Signer    string   `json:"signer,omitempty"` // "": it is not signed
	Feed      string   `json:"feed"`
	Changed   bool     `json:"changed"`
	Releases  int      `json:"releases"`
	New       []string `json:"new"`     // titles
	Indexed   []string `json:"indexed"` // sidecars that were made
	Gone      []string `json:"gone"`    // titles that the catalogue has no more
}

// importer makes the items of a feed from those of a catalogue.
type importer struct {
	*env
	call   importCall
	log    *slog.Logger
	o      options
	client *remote.Client
	how    xvmpack.IndexOptions
	signer string
	had    map[string]feed.Release // by id
	done   imported
}

func (e *env) feedImport(ctx context.Context, c importCall) error {
	im := &importer{env: e, call: c, log: e.quietLog(), had: make(map[string]feed.Release)}
	im.done = imported{Catalogue: show.URL(c.address), Feed: c.out, New: []string{}, Indexed: []string{}, Gone: []string{}}
	r := &catalogueReader{}
	var err error
	switch {
	case c.keyring == "" && !c.unsigned:
		return usagef("whose catalogue is it? Name the keys of its publisher with --keyring FILE, or take it unsigned with --unsigned")
	case !c.index && (c.sign.key != "" || c.sign.gpg != ""):
		return usagef("--sign signs sidecars, and goes with --index")
	case c.keyring != "":
		if r.keyring, err = xvm.LoadKeyring(c.keyring); err != nil {
			return withCode(exitFailed, err)
		}
	}
	if r.wanted, err = catalogue.ParseFilter(c.only); err != nil {
		return usagef("--only: %w", err)
	}
	if im.o, err = softOptions(c.list); err != nil {
		return err
	}
	if im.how.Sign, err = c.sign.sign(); err != nil {
		return err
	}
	if im.how.Time, err = c.sign.time(); err != nil {
		return err
	}
	if im.client, err = newRemote(im.o, im.log); err != nil {
		return err
	}
	defer im.client.Close()
	r.client = im.client
	items, err := r.read(ctx, c.address)
	if err == nil && len(items) == 0 {
		err = errors.New("nothing in the catalogue is an image that --only wants")
	}
	if err != nil {
		return withCode(exitFailed, fmt.Errorf("import: %w", err))
	}
	im.signer, im.done.Signer = r.signer, r.signer
	if r.signer == "" {
		fmt.Fprintln(e.stderr, "vmcastfs: warning: no signature was checked: whoever controls the server or the network says what these images are")
	}
	return im.write(ctx, items)
}

// write makes the feed anew.
func (im *importer) write(ctx context.Context, items []catalogue.Item) error {
	old, err := readAtMost(im.call.out, feed.MaxBody)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return withCode(exitSystem, err)
	}
	channel := feed.Channel{Title: im.call.title, Link: im.call.address, TTL: 24 * time.Hour, Built: time.Now()}
	if len(old) > 0 {
		was, err := feed.Parse(feed.Document{Body: old, FinalURL: im.call.address})
		if err != nil && !errors.Is(err, feed.ErrNoReleases) {
			return withCode(exitFailed, fmt.Errorf("%s: %w; move it away to begin anew", im.call.out, err))
		}
		if was != nil {
			channel.Title = cmp.Or(channel.Title, was.Title)
			for _, r := range was.Releases {
				im.had[r.ID] = r
			}
		}
	}
	channel.Title = cmp.Or(channel.Title, "images of "+show.URL(im.call.address))
	for i := range items {
		entry, err := im.entry(ctx, &items[i], i, len(items))
		if err != nil {
			return withCode(exitFailed, fmt.Errorf("import %s: %w", show.Text(items[i].Name), err))
		}
		channel.Items = append(channel.Items, entry)
		delete(im.had, entry.ID)
	}
	for _, r := range im.had {
		im.done.Gone = append(im.done.Gone, r.Title)
	}
	slices.Sort(im.done.Gone)
	doc, err := marshalFeed(channel, old)
	if err != nil {
		return withCode(exitFailed, err)
	}
	if len(doc) > feed.MaxBody || len(items) > feed.MaxItems {
		return withCode(exitFailed, fmt.Errorf("%s in a feed of %d bytes are more than mounts take; want less with --only", count(len(items), "image"), len(doc)))
	}
	im.done.Changed, im.done.Releases = !bytes.Equal(doc, old), len(items)
	if im.done.Changed {
		if err := renameio.WriteFile(im.call.out, doc, 0o644); err != nil {
			return withCode(exitSystem, err)
		}
	}
	return im.tell()
}

// tell says what was done.
func (im *importer) tell() error {
	if im.call.asJSON {
		return im.printJSON(im.done)
	}
	for _, name := range im.done.New {
		fmt.Fprintln(im.stdout, "new   "+show.Text(name))
	}
	for _, name := range im.done.Gone {
		fmt.Fprintln(im.stdout, "gone  "+show.Text(name))
	}
	text := count(im.done.Releases, "release") + fmt.Sprintf(", %d new, %d gone", len(im.done.New), len(im.done.Gone))
	if !im.done.Changed {
		text = "unchanged, " + count(im.done.Releases, "release")
	}
	if len(im.done.Indexed) > 0 {
		text += ", " + count(len(im.done.Indexed), "sidecar")
	}
	if im.signer != "" {
		text += "; signed by " + im.signer
	}
	fmt.Fprintf(im.stdout, "%s  %s\n", im.call.out, text)
	return nil
}

// entry is the item of the feed for one of the catalogue, the nth of so many.
func (im *importer) entry(ctx context.Context, it *catalogue.Item, n, of int) (feed.Entry, error) {
	address := it.URL.String()
	e := feed.Entry{
		ID: address + "#" + it.Sums[0].Hex[:16], Title: it.Name, URL: address,
		Length: it.Size, SHA256: it.SHA256(), Published: it.Date, NotesHTML: im.notes(it),
	}
	was, known := im.had[e.ID]
	if known && (e.SHA256 == "" || e.SHA256 == was.SHA256) && (e.Length < 0 || e.Length == was.Length) && was.SHA256 != "" {
		e.SHA256, e.Length, e.Published = was.SHA256, was.Length, was.Published
	} else {
		known = false
	}
	whole := e.SHA256 == "" || im.call.index && !im.indexed(it, e.SHA256)
	if whole || e.Length < 0 || e.Published.IsZero() {
		if err := im.look(ctx, it, &e, whole, fmt.Sprintf("%s (%d of %d)", it.Name, n+1, of)); err != nil {
			return e, err
		}
	}
	if !known {
		im.done.New = append(im.done.New, e.Title)
	}
	return e, nil
}

func (im *importer) sidecar(it *catalogue.Item, sum string) string {
	return filepath.Join(filepath.Dir(im.call.out), bundle.SidecarName(it.File(), sum))
}

// indexed tells whether there is a sidecar, and a signature in it if there is to be one.
func (im *importer) indexed(it *catalogue.Item, sum string) bool {
	f, err := os.Open(im.sidecar(it, sum))
	if err != nil {
		return false
	}
	defer f.Close()
	if im.how.Sign == nil {
		return true
	}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err != nil || h.Name == xvm.BlockListName {
			return false
		}
		if h.Name == xvm.SidecarSignature {
			return true
		}
	}
}

// look asks the server for what the catalogue does not say. whole: for all of the image.
func (im *importer) look(ctx context.Context, it *catalogue.Item, e *feed.Entry, whole bool, what string) error {
	a, err := openRemoteArchive(ctx, im.client, e.URL, im.call.address, im.env)
	if err != nil {
		return err
	}
	defer a.close() //nolint:errcheck // only read
	if e.Length >= 0 && a.size != e.Length {
		return fmt.Errorf("the server has %d bytes, the catalogue says %d", a.size, e.Length)
	}
	e.Length = a.size
	if e.Published.IsZero() {
		e.Published = time.Now()
		if r, ok := a.Archive.(remoteArchive); ok {
			if t, err := time.Parse(time.RFC1123, r.Identity().LastModified); err == nil {
				e.Published = t
			}
		}
	}
	if !whole {
		return nil
	}
	// The sums are compared as the bytes come, whatever else is made of them.
	s := &summedArchive{Archive: a.Archive, size: a.size, sums: map[string]hash.Hash{"sha256": sha256.New(), "sha384": sha512.New384(), "sha512": sha512.New()}}
	add, done := im.progress(what, a.size)
	defer done()
	a.Archive = s
	if !im.call.index {
		body, err := s.Stream(ctx, 0, a.size)
		if err != nil {
			return err
		}
		defer body.Close()
		if _, err := io.Copy(io.Discard, &countingReader{body, add}); err != nil {
			return err
		}
		return s.compare(it, e)
	}
	return im.makeSidecar(ctx, it, e, a, s, add)
}

func (im *importer) makeSidecar(ctx context.Context, it *catalogue.Item, e *feed.Entry, a *openedArchive, s *summedArchive, add func(int64)) error {
	enc, err := im.enclosedIn(ctx, a, e.URL)
	if err != nil {
		return err
	}
	defer enc.Close()
	how := im.how
	how.Bare, how.Progress = enc.bare, add
	if how.Time.IsZero() {
		how.Time = e.Published
	}
	temp := filepath.Join(filepath.Dir(im.call.out), bundle.SidecarName(it.File(), cmp.Or(e.SHA256, it.Sums[0].Hex)))
	out, err := newOutput(temp)
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // of what was not finished
	report, err := xvmpack.Index(ctx, enc, enc.size, out.File, how)
	if sumErr := s.compare(it, e); sumErr != nil && (err == nil || errors.Is(err, xvmpack.ErrFaults)) {
		err = sumErr
	}
	switch {
	case errors.Is(err, xvmpack.ErrListed): // it is a package that checks itself
		return nil
	case errors.Is(err, xvmpack.ErrFaults):
		return fmt.Errorf("%w: %s", err, show.Text(strings.Join(report.Faults, "; ")))
	case err != nil:
		return err
	}
	if err := out.CloseAtomicallyReplace(); err != nil {
		return withCode(exitSystem, err)
	}
	path := im.sidecar(it, e.SHA256)
	if path != temp {
		if err := os.Rename(temp, path); err != nil {
			return withCode(exitSystem, err)
		}
	}
	im.done.Indexed = append(im.done.Indexed, path)
	return nil
}

// notes are what the feed says of an image: where it comes from, and its sums.
func (im *importer) notes(it *catalogue.Item) string {
	var b strings.Builder
	by := "It is not signed."
	if im.signer != "" {
		by = "It is signed by " + im.signer + "."
	}
	fmt.Fprintf(&b, "<p>From the catalogue %s. %s</p>\n<ul>\n", html.EscapeString(show.URL(im.call.address)), html.EscapeString(by))
	for _, f := range []struct{ name, value string }{
		{"product", it.Product}, {"version", it.Version}, {"system", strings.TrimSpace(it.OS + " " + it.Release)}, {"architecture", it.Arch}, {"kind", it.Kind},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, "<li>%s: %s</li>\n", f.name, html.EscapeString(show.Text(f.value)))
		}
	}
	for _, s := range it.Sums {
		fmt.Fprintf(&b, "<li>%s: %s</li>\n", s.Algo, s.Hex)
	}
	b.WriteString("</ul>")
	return b.String()
}

// summedArchive sums what is read of an archive from its beginning to its end.
type summedArchive struct {
	xvmpack.Archive
	size int64
	sums map[string]hash.Hash
	read int64 // of the first stream of all of it
	used bool
}

func (s *summedArchive) Stream(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	body, err := s.Archive.Stream(ctx, off, n)
	if err != nil || s.used || off != 0 || n != s.size {
		return body, err
	}
	s.used = true
	var to []io.Writer
	for _, h := range s.sums {
		to = append(to, h)
	}
	counted := &countingReader{io.TeeReader(body, io.MultiWriter(to...)), func(n int64) { s.read += n }}
	return struct {
		io.Reader
		io.Closer
	}{counted, body}, nil
}

// compare says what of the sums of a catalogue an image does not have, and fills in the
// SHA-256 if the catalogue has none.
func (s *summedArchive) compare(it *catalogue.Item, e *feed.Entry) error {
	if s.read != s.size {
		return fmt.Errorf("only %d of its %d bytes were read", s.read, s.size)
	}
	for _, sum := range it.Sums {
		if got := hex.EncodeToString(s.sums[sum.Algo].Sum(nil)); got != sum.Hex {
			return fmt.Errorf("its %s is %s, the catalogue says %s", sum.Algo, got, sum.Hex)
		}
	}
	e.SHA256 = hex.EncodeToString(s.sums["sha256"].Sum(nil))
	return nil
}
