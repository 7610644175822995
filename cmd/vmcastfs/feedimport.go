package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"html"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"vmcastfs/cache/remote"
	"vmcastfs/feed"
	"vmcastfs/feed/catalogue"
	"vmcastfs/feed/show"
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
	signed map[string]time.Time    // catalogueReader.signed
	had    map[string]feed.Release // by id
	half   map[string]feed.Release // what an import had read that did not end
	read   []feed.Entry            // now, to be the next one's half
	done   imported
}

func (e *env) feedImport(ctx context.Context, c importCall) error {
	im := &importer{env: e, call: c, log: e.quietLog(), had: make(map[string]feed.Release), half: make(map[string]feed.Release)}
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
	if im.how.Sign, im.how.Time, err = c.sign.read(); err != nil {
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
	im.signer, im.done.Signer, im.signed = r.signer, r.signer, r.signed
	if r.signer == "" {
		fmt.Fprintln(e.stderr, "vmcastfs: warning: no signature was checked: whoever controls the server or the network says what these images are")
	}
	return im.write(ctx, items)
}

// write makes the feed anew.
func (im *importer) write(ctx context.Context, items []catalogue.Item) error {
	if len(items) > feed.MaxItems {
		return withCode(exitFailed, fmt.Errorf("%s are more than mounts take; want less with --only", count(len(items), "image")))
	}
	was, old, err := earlierFeed(im.call.out, im.call.address)
	if err != nil {
		return err
	}
	signed := feed.SignedIn(old)
	if err := older(im.signed, signed); err != nil && !im.call.older {
		return withCode(exitFailed, fmt.Errorf("import: %w", err))
	}
	maps.Copy(signed, im.signed) // what is read unsigned now was signed then: a later signature counts against that
	for _, r := range was.Releases {
		im.had[r.ID] = r
	}
	if part, err := readAtMost(im.part(), feed.MaxBody); err == nil {
		if half, _ := feed.Parse(feed.Document{Body: part, FinalURL: im.call.address}); half != nil {
			for _, r := range half.Releases {
				im.half[r.ID] = r
			}
		}
	}
	channel := feed.Channel{
		Title: cmp.Or(im.call.title, was.Title, "images of "+show.URL(im.call.address)), Link: im.call.address, TTL: 24 * time.Hour, Built: time.Now(),
		Signed: signed,
	}
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
	doc, err := channel.Update(old)
	if err != nil {
		return withCode(exitFailed, err)
	}
	if len(doc) > feed.MaxBody {
		return withCode(exitFailed, fmt.Errorf("%s in a feed of %d bytes are more than mounts take; want less with --only", count(len(items), "image"), len(doc)))
	}
	im.done.Changed, im.done.Releases = !bytes.Equal(doc, old), len(items)
	if im.done.Changed {
		if err := renameio.WriteFile(im.call.out, doc, 0o644); err != nil {
			return withCode(exitSystem, err)
		}
	}
	_ = os.Remove(im.part())
	return im.tell()
}

// part is a feed of the images that were read for their SHA-256 alone, until the import ends:
// the next one need not read them again if this is interrupted.
func (im *importer) part() string { return im.call.out + ".part" }

func (im *importer) keepPart(e feed.Entry) {
	im.read = append(im.read, e)
	c := feed.Channel{Title: im.call.out, Link: im.call.address, Built: time.Now(), Items: im.read}
	if doc, err := c.Marshal(); err == nil {
		_ = renameio.WriteFile(im.part(), doc, 0o644) // without it more is read again, and no more
	}
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
	had := known
	if !known {
		was, known = im.half[e.ID]
	}
	if known && (e.SHA256 == "" || e.SHA256 == was.SHA256) && (e.Length < 0 || e.Length == was.Length) && was.SHA256 != "" {
		e.SHA256, e.Length, e.Published = was.SHA256, was.Length, was.Published
	} else {
		had = false
	}
	whole := e.SHA256 == ""
	if im.call.index && !whole {
		done, _ := im.indexed(it, e.SHA256)
		whole = !done
	}
	if whole || e.Length < 0 || e.Published.IsZero() {
		if err := im.look(ctx, it, &e, whole, fmt.Sprintf("%s (%d of %d)", it.Name, n+1, of)); err != nil {
			return e, err
		}
	}
	if it.SHA256() == "" && !had {
		im.keepPart(e)
	}
	if !had {
		im.done.New = append(im.done.New, e.Title)
	}
	return e, nil
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
