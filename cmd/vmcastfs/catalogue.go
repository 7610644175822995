package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/feed/catalogue"
	"vmcastfs/feed/show"
	"vmcastfs/xvm"
)

// catalogueReader fetches a catalogue and checks who signed it.
type catalogueReader struct {
	client  *remote.Client
	keyring *xvm.Keyring // nil: it need not be signed
	wanted  catalogue.Filter
	signer  string // of the last text that was signed
	// signed is when each text was signed, by its address; the first one's is that which
	// the user gave, wherever it was found.
	signed map[string]time.Time
}

// signatureSuffixes are what a detached signature is called, behind the name of the text.
var signatureSuffixes = []string{".gpg", ".sign", ".asc"}

// usualNames are where a catalogue is in the directory that is named.
var usualNames = []string{"streams/v1/index.sjson", "streams/v1/index.json", "SHA256SUMS", "SHA512SUMS"}

// read lists what is wanted of the catalogue at an address.
func (r *catalogueReader) read(ctx context.Context, address string) ([]catalogue.Item, error) {
	at, err := url.Parse(address)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" || at.RawQuery != "" || at.Fragment != "" || at.User != nil {
		return nil, usagef("%q is no http or https address of a catalogue, without a login, a query or a fragment", show.Text(address))
	}
	r.signed = make(map[string]time.Time)
	if !strings.HasSuffix(at.Path, "/") && at.Path != "" {
		return r.items(ctx, at, address)
	}
	for _, name := range usualNames {
		items, err := r.items(ctx, at.JoinPath(name), address)
		if !errors.Is(err, remote.ErrNotFound) {
			return items, err
		}
	}
	return nil, fmt.Errorf("%s has no catalogue (looked for %s); name the file of sums", show.ParsedURL(at), strings.Join(usualNames, ", "))
}

// items are those of one file, which the user called address.
func (r *catalogueReader) items(ctx context.Context, at *url.URL, address string) (items []catalogue.Item, err error) {
	text, err := r.text(ctx, at, address)
	if err != nil {
		return nil, err
	}
	if strings.HasSuffix(at.Path, "json") {
		items, err = r.streams(ctx, at, text)
	} else if items, err = catalogue.Sums(text, at, r.wanted); err != nil {
		err = fmt.Errorf("%s: %w", show.ParsedURL(at), err)
	}
	if err != nil {
		return nil, err
	}
	slices.SortFunc(items, func(a, b catalogue.Item) int { return strings.Compare(a.Name, b.Name) })
	return r.wanted.Select(items)
}

// streams lists the images of simplestreams. text is their index, or one list of products.
func (r *catalogueReader) streams(ctx context.Context, at *url.URL, text []byte) (items []catalogue.Item, err error) {
	root, err := catalogue.Root(at)
	if err != nil {
		return nil, err
	}
	lists := []catalogue.List{{URL: at}}
	index, err := catalogue.IsIndex(text)
	if err == nil && index {
		lists, err = catalogue.Index(text, root)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", show.ParsedURL(at), err)
	}
	for _, l := range lists { // one at a time: each may be large
		if l.URL != at {
			if text, err = r.text(ctx, l.URL, l.URL.String()); err != nil {
				return nil, err
			}
		}
		if items, err = catalogue.Products(items, text, root, l.ID, r.wanted); err != nil {
			return nil, fmt.Errorf("%s: %w", show.ParsedURL(l.URL), err)
		}
	}
	return items, nil
}

// text fetches a text, and has its signature checked. Nothing of it is looked at before.
func (r *catalogueReader) text(ctx context.Context, at *url.URL, address string) ([]byte, error) {
	doc, err := r.client.Get(ctx, at.String(), "", "", catalogue.MaxDocument)
	if err != nil {
		return nil, err
	}
	if xvm.IsClearSigned(doc.Body) {
		text, by, err := r.keyring.ClearText(doc.Body, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", show.ParsedURL(at), err)
		}
		if by != nil {
			r.signer, r.signed[address] = by.Signer, by.Time
		}
		return text, nil
	}
	if r.keyring == nil {
		return doc.Body, nil
	}
	for _, suffix := range signatureSuffixes {
		u := *at
		u.Path, u.RawPath = at.Path+suffix, ""
		signature, err := r.client.Get(ctx, u.String(), "", "", xvm.MaxSignatureSize)
		if errors.Is(err, remote.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		by, err := r.keyring.Verify(doc.Body, signature.Body, time.Now())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", show.ParsedURL(&u), err)
		}
		r.signer, r.signed[address] = by.Signer, by.Time
		return doc.Body, nil
	}
	return nil, fmt.Errorf("%s is not signed: there is nothing with %s behind its name; --unsigned takes it as it is", show.ParsedURL(at), strings.Join(signatureSuffixes, ", "))
}

// older says which text was signed before the one that a feed was made of, or nothing. A
// server, or whoever is on the way, may serve an old catalogue whose signature is good.
func older(now, then map[string]time.Time) error {
	for _, address := range slices.Sorted(maps.Keys(now)) {
		if was, ok := then[address]; ok && now[address].Before(was) {
			return fmt.Errorf("%s was signed on %s, and the feed was made of one of %s: this is an old catalogue, from a mirror that lags or from an attacker; the feed stays as it is, --older takes it",
				show.URL(address), now[address].UTC().Format(time.RFC3339), was.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
