package main

import (
	"context"
	"errors"
	"fmt"
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
	if !strings.HasSuffix(at.Path, "/") && at.Path != "" {
		return r.items(ctx, at)
	}
	for _, name := range usualNames {
		items, err := r.items(ctx, at.JoinPath(name))
		if !errors.Is(err, remote.ErrNotFound) {
			return items, err
		}
	}
	return nil, fmt.Errorf("%s has no catalogue (looked for %s); name the file of sums", show.ParsedURL(at), strings.Join(usualNames, ", "))
}

// items are those of one file.
func (r *catalogueReader) items(ctx context.Context, at *url.URL) (items []catalogue.Item, err error) {
	text, err := r.signed(ctx, at)
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
			if text, err = r.signed(ctx, l.URL); err != nil {
				return nil, err
			}
		}
		if items, err = catalogue.Products(items, text, root, l.ID, r.wanted); err != nil {
			return nil, fmt.Errorf("%s: %w", show.ParsedURL(l.URL), err)
		}
	}
	return items, nil
}

// signed fetches a text, and has its signature checked. Nothing of it is looked at before.
func (r *catalogueReader) signed(ctx context.Context, at *url.URL) ([]byte, error) {
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
			r.signer = by.Signer
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
		r.signer = by.Signer
		return doc.Body, nil
	}
	return nil, fmt.Errorf("%s is not signed: there is nothing with %s behind its name; --unsigned takes it as it is", show.ParsedURL(at), strings.Join(signatureSuffixes, ", "))
}
