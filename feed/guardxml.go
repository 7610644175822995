package feed

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"
)

// wanted are the elements of a channel or an item that mean something to us,
// by lower-case local name in whatever namespace. All others are cut out
// before the parser sees them: their number, size and depth cost nothing then.
var wanted = map[string]bool{
	"title": true, "description": true, "summary": true, "content": true, "encoded": true,
	"link": true, "enclosure": true, "guid": true, "id": true, "uuid": true,
	"pubdate": true, "date": true, "published": true, "issued": true, "updated": true, "modified": true,
	"ttl": true, "skiphours": true, "skipdays": true,
	"channel": true, "item": true, "entry": true,
}

// edit replaces the bytes [start,end) of the document by text.
type edit struct {
	start, end int
	text       []byte
}

// xmlGuard walks a document with the very tokenizer that the parser uses, so
// that both see the same elements, and applies every limit before the parser
// allocates for it.
type xmlGuard struct {
	doc   []byte
	dec   *xml.Decoder
	names []xml.Name // open elements
	bases []*url.URL // xml:base in scope, nil if none; as deep as names
	decls []int      // xmlns declarations in scope; as deep as names

	root     string // lower-case name of the root element
	start    int    // where it begins
	items    []xmlItem
	item     xmlItem // the open one
	itemAt   int     // its depth, 0: none is open
	cutAt    int     // depth of the unwanted element being cut, 0: none
	cutFrom  int
	dating   bool // the next text is the open item's date
	outside  int  // tokens outside of items
	outBytes int
	edits    []edit
	base     *url.URL
}

// guardXML checks a document in UTF-8 and returns what the parser may have of
// it: from the root element on, without unwanted elements, without items
// beyond the limits, and with enclosure URLs resolved where xml:base is used
// (RSS readers must, and the parser does not).
func guardXML(doc []byte, base *url.URL) (out []byte, warnings []string, err error) {
	g := &xmlGuard{doc: doc, dec: xml.NewDecoder(bytes.NewReader(doc)), base: base}
	g.dec.Strict = false
	for {
		from := int(g.dec.InputOffset())
		tok, err := g.dec.RawToken()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, nil, &SyntaxError{g.dec.InputOffset(), err}
		}
		if err := g.token(tok, from, int(g.dec.InputOffset())); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case g.root == "":
		return nil, nil, ErrNotFeed
	case len(g.names) > 0:
		return nil, nil, &SyntaxError{int64(len(doc)), fmt.Errorf("<%s> is never closed", g.names[len(g.names)-1].Local)}
	}
	warnings = g.limitItems()
	return g.apply(), warnings, nil
}

func (g *xmlGuard) token(tok xml.Token, from, to int) error {
	cost, cutting := 1, g.cutAt != 0
	if len(g.edits) > maxEdits {
		return fmt.Errorf("%w: too much in its items that is of no use", ErrTooLarge)
	}
	switch t := tok.(type) {
	case xml.Directive:
		if err := checkDirective(t); err != nil {
			return err
		}
	case xml.ProcInst:
		if strings.EqualFold(t.Target, "xml") {
			return &SyntaxError{int64(from), errors.New("XML declaration in the middle")}
		}
	case xml.CharData:
		if g.dating {
			g.date(string(t), from, to)
		}
	case xml.StartElement:
		cost += len(t.Attr)
		if err := g.open(t, from, to); err != nil {
			return err
		}
	case xml.EndElement:
		if err := g.close(t, from, to); err != nil {
			return err
		}
	}
	switch {
	case cutting || g.cutAt != 0:
		return nil
	case g.itemAt != 0:
		g.item.tokens += int32(cost)
		return nil
	}
	g.outside += cost
	g.outBytes += to - from
	if g.outside > maxOutside+len(g.items)*4 || g.outBytes > maxOutBytes+len(g.items)*256 {
		return fmt.Errorf("%w: too much outside of its items", ErrTooLarge)
	}
	return nil
}

func (g *xmlGuard) open(t xml.StartElement, from, to int) error {
	name := strings.ToLower(t.Name.Local)
	depth := len(g.names) + 1
	switch {
	case depth > MaxDepth:
		return fmt.Errorf("%w: more than %d levels", ErrTooDeep, MaxDepth)
	case len(t.Attr) > maxAttrs:
		return &SyntaxError{int64(from), fmt.Errorf("<%s> has %d attributes", clip(t.Name.Local, 40), len(t.Attr))}
	case depth == 1 && g.root != "":
		return &SyntaxError{int64(from), errors.New("a second root element")}
	case depth == 1:
		if err := checkRoot(name); err != nil {
			return err
		}
		g.root, g.start = name, from
	}

	base, decls := (*url.URL)(nil), 0
	if depth > 1 {
		base, decls = g.bases[depth-2], g.decls[depth-2]
	}
	for _, a := range t.Attr {
		switch {
		case a.Name.Space == "xml" && a.Name.Local == "base":
			if u, err := url.Parse(strings.TrimSpace(a.Value)); err == nil {
				if base == nil {
					base = g.base
				}
				base = resolve(base, u)
			}
		case a.Name.Space == "xmlns", a.Name.Space == "" && a.Name.Local == "xmlns":
			decls++
		}
	}
	if decls > maxNamespaces {
		return &SyntaxError{int64(from), errors.New("too many namespaces")}
	}
	g.names = append(g.names, t.Name)
	g.bases = append(g.bases, base)
	g.decls = append(g.decls, decls)
	if g.cutAt != 0 || depth == 1 {
		return nil
	}

	parent := strings.ToLower(g.names[depth-2].Local)
	inItem := g.itemAt != 0 && depth == g.itemAt+1
	switch {
	case g.itemAt == 0 && isItem(g.root, name, parent, depth):
		g.item, g.itemAt = xmlItem{start: int32(from)}, depth
	case (inItem || g.itemAt == 0 && depth <= 3 && (parent == "channel" || depth == 2)) && !wanted[name]:
		g.cutAt, g.cutFrom = depth, from
	case inItem && isDate(name):
		g.dating = true
	case inItem && base != nil && (name == "enclosure" || name == "link"):
		if tag := rebase(t, base, g.doc[from:to]); tag != nil {
			g.edits = append(g.edits, edit{from, to, tag})
		}
	}
	return nil
}

// date notes the open item's date, and writes it in the form that the parser
// tries first: a feed's usual one comes after a hundred others.
func (g *xmlGuard) date(text string, from, to int) {
	g.dating = false
	if g.item.dateTo == 0 {
		g.item.dateFrom, g.item.dateTo = int32(from), int32(to)
	}
	if t, ok := ParseDate(text); ok {
		g.edits = append(g.edits, edit{from, to, t.AppendFormat(nil, time.RFC3339Nano)})
	}
}

func (g *xmlGuard) close(t xml.EndElement, from, to int) error {
	depth := len(g.names)
	if depth == 0 || g.names[depth-1] != t.Name {
		return &SyntaxError{int64(from), fmt.Errorf("unexpected </%s>", clip(t.Name.Local, 40))}
	}
	g.names, g.bases, g.decls = g.names[:depth-1], g.bases[:depth-1], g.decls[:depth-1]
	g.dating = false
	switch {
	case g.cutAt == depth:
		g.cut(g.cutFrom, to)
		g.cutAt = 0
	case g.itemAt == depth:
		if g.item.end = int32(to); len(g.items) == maxListed {
			return errListed
		}
		g.items = append(g.items, g.item)
		g.itemAt = 0
	}
	return nil
}

// checkDirective lets the bare DOCTYPE of RSS 0.91 pass: nothing ever loads
// what it names. An internal subset is where entities are declared.
func checkDirective(d []byte) error {
	s := strings.ToUpper(clip(string(d), 1024))
	f := strings.Fields(s)
	switch {
	case len(f) > 1 && f[0] == "DOCTYPE" && strings.HasPrefix(f[1], "HTML"):
		return ErrHTML
	case len(f) == 0 || f[0] != "DOCTYPE" || len(d) > 1024 || strings.ContainsAny(s, "[<") || strings.Contains(s, "ENTITY"):
		return fmt.Errorf("%w or has a document type definition inside", ErrEntities)
	}
	return nil
}

// cut has a stretch left out.
func (g *xmlGuard) cut(from, to int) {
	if n := len(g.edits); n > 0 && g.edits[n-1].end == from && g.edits[n-1].text == nil {
		g.edits[n-1].end = to
		return
	}
	g.edits = append(g.edits, edit{from, to, nil})
}

func checkRoot(name string) error {
	switch name {
	case "rss", "rdf", "feed":
		return nil
	case "html", "head", "body", "script", "meta", "title", "div", "p", "h1", "center", "a", "br", "frameset":
		return ErrHTML
	}
	return fmt.Errorf("%w: its root element is <%s>", ErrNotFeed, Sanitize(clip(name, 40)))
}

func isItem(root, name, parent string, depth int) bool {
	if root == "feed" {
		return name == "entry" && depth == 2
	}
	return name == "item" && (depth == 2 || depth == 3 && parent == "channel")
}

func isDate(name string) bool {
	switch name {
	case "pubdate", "date", "published", "issued", "updated", "modified":
		return true
	}
	return false
}

// rebase writes the start tag of an enclosure or link anew, with its URL
// resolved; nil if that changes nothing.
func rebase(t xml.StartElement, base *url.URL, raw []byte) []byte {
	changed := false
	var b bytes.Buffer
	b.WriteString("<" + qname(t.Name))
	for _, a := range t.Attr {
		if a.Name.Space == "" && (a.Name.Local == "url" || a.Name.Local == "href") {
			if u, err := url.Parse(strings.TrimSpace(a.Value)); err == nil && !u.IsAbs() {
				a.Value, changed = resolve(base, u).String(), true
			}
		}
		b.WriteString(" " + qname(a.Name) + `="`)
		xml.EscapeText(&b, []byte(a.Value)) // a bytes.Buffer does not fail
		b.WriteByte('"')
	}
	if !changed {
		return nil
	}
	if bytes.HasSuffix(raw, []byte("/>")) {
		b.WriteByte('/')
	}
	b.WriteByte('>')
	return b.Bytes()
}

func qname(n xml.Name) string {
	if n.Space != "" {
		return n.Space + ":" + n.Local
	}
	return n.Local
}

// resolve is u seen from base, which may be nil.
func resolve(base, u *url.URL) *url.URL {
	if base == nil {
		return u
	}
	return base.ResolveReference(u)
}
