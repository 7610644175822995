package feed

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"vmcastfs/feed/show"
)

// wanted are the elements of a channel or an item that have a meaning here, by
// lower-case local name in whatever namespace. All others are cut out before
// the parser sees them: their number, size and depth cost nothing then.
var wanted = map[string]bool{
	"title": true, "description": true, "summary": true, "content": true, "encoded": true,
	"guid": true, "id": true, "uuid": true,
	"pubdate": true, "date": true, "published": true, "issued": true, "updated": true, "modified": true,
	"lastbuilddate": true, "ttl": true, "skiphours": true, "skipdays": true,
	"channel": true, "item": true, "entry": true,
}

// edit replaces the bytes [start,end) of the document by text.
type edit struct {
	start, end int
	text       []byte
}

// xmlGuard walks a document with the very tokenizer that the parser uses, so
// that both see the same elements. It applies every limit before the parser
// allocates anything, and collects the edits that turn the document into what
// the parser is given.
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
	packages packageTags // of the open item
	about    string      // the open item's id in RDF, "" if it has another one
	rewrite  rewrite     // the element whose text is written anew
	outside  int         // tokens outside of items
	outBytes int
	edits    []edit
	base     *url.URL
}

// guardXML checks a document in UTF-8 and returns what the parser may have of
// it. That begins with the root element, and lacks unwanted elements and items
// beyond the limits. Titles, dates, ids and enclosures are written in one plain
// form each, because the parser understands fewer forms than feeds have.
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
			return nil, nil, &syntaxError{g.dec.InputOffset(), err}
		}
		if err := g.token(tok, from, int(g.dec.InputOffset())); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case g.root == "":
		return nil, nil, ErrNotFeed
	case len(g.names) > 0:
		return nil, nil, &syntaxError{int64(len(doc)), fmt.Errorf("<%s> is never closed", g.names[len(g.names)-1].Local)}
	}
	warnings = g.limitItems()
	return g.apply(), warnings, nil
}

func (g *xmlGuard) token(tok xml.Token, from, to int) error {
	cost, cutting := 1, g.cutAt != 0
	if len(g.edits) > maxEdits {
		return fmt.Errorf("%w: too much in its items that is of no use", errTooLarge)
	}
	switch t := tok.(type) {
	case xml.Directive:
		if err := checkDirective(t); err != nil {
			return err
		}
	case xml.ProcInst:
		if strings.EqualFold(t.Target, "xml") {
			return &syntaxError{int64(from), errors.New("XML declaration in the middle")}
		}
	case xml.CharData:
		g.rewrite.add(g.doc[from:to])
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
		return fmt.Errorf("%w: too much outside of its items", errTooLarge)
	}
	return nil
}

func (g *xmlGuard) open(t xml.StartElement, from, to int) error {
	name := strings.ToLower(t.Name.Local)
	depth := len(g.names) + 1
	switch {
	case depth > MaxDepth:
		return fmt.Errorf("%w: more than %d levels", errTooDeep, MaxDepth)
	case len(t.Attr) > maxAttrs:
		return &syntaxError{int64(from), fmt.Errorf("<%s> has %d attributes", show.Clip(t.Name.Local, 40), len(t.Attr))}
	case depth == 1 && g.root != "":
		return &syntaxError{int64(from), errors.New("a second root element")}
	case depth == 1:
		if err := checkRoot(name); err != nil {
			return err
		}
		g.root, g.start = name, from
	}
	base, err := g.enter(t, from)
	if err != nil || depth == 1 {
		return err
	}
	parent := strings.ToLower(g.names[depth-2].Local)
	inItem := g.itemAt != 0 && depth == g.itemAt+1
	inChannel := g.itemAt == 0 && depth <= 3 && (parent == "channel" || depth == 2)
	isPackage := false
	if inItem || g.itemAt != 0 && depth == g.itemAt+2 && parent == "group" {
		isPackage = g.packages.add(g.root, t, base)
	}
	switch {
	case g.cutAt != 0:
	case g.rewrite.depth != 0:
		g.rewrite.markup(name, g.doc[from:to])
	case g.itemAt == 0 && isItem(g.root, name, parent, depth):
		g.item, g.itemAt, g.packages = xmlItem{start: int32(from)}, depth, packageTags{}
		if g.about = ""; g.root == "rdf" {
			g.about = attribute(t, "about")
		}
	case inItem && isPackage, (inItem || inChannel) && !wanted[name]:
		g.cutAt, g.cutFrom = depth, from
	case inItem && (name == "title" || name == "guid" || name == "id" && g.root == "feed" || isDate(name)), inChannel && name == "title":
		g.rewrite = rewrite{depth: depth, start: from, tag: t}
	}
	return nil
}

// enter notes an open element, with the xml:base and the namespaces that hold
// inside of it.
func (g *xmlGuard) enter(t xml.StartElement, from int) (base *url.URL, err error) {
	decls := 0
	if n := len(g.names); n > 0 {
		base, decls = g.bases[n-1], g.decls[n-1]
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
		case isNamespace(a):
			decls++
		}
	}
	if decls > maxNamespaces {
		return nil, &syntaxError{int64(from), errors.New("too many namespaces")}
	}
	g.names = append(g.names, t.Name)
	g.bases = append(g.bases, base)
	g.decls = append(g.decls, decls)
	return base, nil
}

func (g *xmlGuard) close(t xml.EndElement, from, to int) error {
	depth := len(g.names)
	if depth == 0 || g.names[depth-1] != t.Name {
		return &syntaxError{int64(from), fmt.Errorf("unexpected </%s>", show.Clip(t.Name.Local, 40))}
	}
	g.names, g.bases, g.decls = g.names[:depth-1], g.bases[:depth-1], g.decls[:depth-1]
	switch {
	case g.cutAt == depth:
		g.cut(g.cutFrom, to)
		g.cutAt = 0
	case g.cutAt != 0:
	case g.rewrite.depth == depth:
		g.rewritten(to)
	case g.rewrite.depth != 0:
		g.rewrite.markup(strings.ToLower(t.Name.Local), g.doc[from:to])
	case g.itemAt == depth:
		if g.item.end = int32(to); len(g.items) == maxListed {
			return errListed
		}
		if n := len(g.packages.tags); n > 0 {
			g.edits = append(g.edits, edit{from, from, append(g.packages.tags, guidTag(g.about)...)})
			g.item.tokens += int32(4 * g.packages.count)
		}
		g.items = append(g.items, g.item)
		g.itemAt = 0
	}
	return nil
}

// rewritten ends the element that is written anew.
func (g *xmlGuard) rewritten(to int) {
	r := g.rewrite
	g.rewrite = rewrite{}
	text := strings.TrimSpace(r.text.String())
	switch name := strings.ToLower(r.tag.Name.Local); {
	case name == "title":
		text = show.Clip(titleText(g.root, attribute(r.tag, "type"), show.Clip(text, 8*maxTitle)), maxTitle)
	case name == "id" || name == "guid":
		if text != "" {
			g.about = ""
		}
		text = opaque(text)
	default:
		t, ok := parseDate(text)
		if !ok {
			break
		}
		if g.item.date == 0 {
			g.item.date = t.Unix()
		}
		text = t.Format("2006-01-02T15:04:05.999999999Z07:00")
	}
	g.edits = append(g.edits, edit{r.start, to, r.element(text)})
}

// checkDirective lets the bare DOCTYPE of RSS 0.91 pass: nothing ever loads
// what it names. An internal subset is where entities are declared.
func checkDirective(d []byte) error {
	s := strings.ToUpper(show.Clip(string(d), 1024))
	f := strings.Fields(s)
	switch {
	case len(f) > 1 && f[0] == "DOCTYPE" && strings.HasPrefix(f[1], "HTML"):
		return ErrHTML
	case len(f) == 0 || f[0] != "DOCTYPE" || len(d) > 1024 || strings.ContainsAny(s, "[<") || strings.Contains(s, "ENTITY"):
		return fmt.Errorf("%w or has a document type definition inside", errEntities)
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
	return fmt.Errorf("%w: its root element is <%s>", ErrNotFeed, show.Text(show.Clip(name, 40)))
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
