package feed

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"encoding/xml"
	"net/url"
	"strings"

	"vmcastfs/feed/show"
)

// rewrite is an element of text that is written anew for the parser: without
// attributes, CDATA sections and elements inside. The zero value is none.
type rewrite struct {
	depth int // of the element, 0: none
	start int // where its start tag begins
	tag   xml.StartElement
	text  strings.Builder
}

// add takes character data as the document has it.
func (r *rewrite) add(raw []byte) {
	if r.depth == 0 {
		return
	}
	s := string(raw)
	if inner, ok := strings.CutPrefix(s, "<![CDATA["); ok {
		s = strings.TrimSuffix(inner, "]]>")
	} else {
		s = unescape(s)
	}
	r.text.WriteString(s)
}

// markup takes a tag inside of the element: one of HTML goes, any other is
// text that its author forgot to escape.
func (r *rewrite) markup(name string, raw []byte) {
	r.text.WriteString(tagText([]byte(name), string(raw)))
}

// element is the element with another text. Namespace declarations stay: the
// name of the element may need them.
func (r *rewrite) element(text string) []byte {
	var attrs []xml.Attr
	for _, a := range r.tag.Attr {
		if isNamespace(a) {
			attrs = append(attrs, a)
		}
	}
	var b bytes.Buffer
	writeStart(&b, r.tag.Name, attrs, "")
	xml.EscapeText(&b, []byte(text)) // a bytes.Buffer does not fail
	b.WriteString("</" + qname(r.tag.Name) + ">")
	return b.Bytes()
}

// titleText is the plain text of a title. Only Atom says which kind of text a
// title is. The others say that it is plain, and carry HTML all the same.
func titleText(root, kind, text string) string {
	kind = strings.ToLower(strings.TrimSpace(kind))
	if root == "feed" && kind != "html" && kind != "text/html" { // in XHTML the tags are elements, and have gone
		return show.Text(text)
	}
	return plainText(text)
}

// opaque hides an id from the parser, which takes some ids for URLs and writes
// them anew. RFC 4287 compares ids as they are written.
func opaque(id string) string { return "id:" + hex.EncodeToString([]byte(printableID(id))) }

// guidTag is an id of RDF in the form that the parser knows; nothing without one.
func guidTag(id string) []byte {
	if id == "" {
		return nil
	}
	r := rewrite{tag: xml.StartElement{Name: xml.Name{Local: "guid"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}}}}}
	return r.element(opaque(id))
}

// printableID is an id with the white space around it cut, or its digest if it
// cannot be shown or is too long.
func printableID(id string) string {
	id = strings.TrimSpace(id)
	if len(id) > maxID || show.Text(id) != id {
		return "sha256:" + digest(id)
	}
	return id
}

// plainID undoes opaque.
func plainID(id string) string {
	b, err := hex.DecodeString(strings.TrimPrefix(id, "id:"))
	if err != nil {
		return id
	}
	return string(b)
}

// packageTags are the elements of an item that name a package, in the one form
// that the parser knows for this kind of feed.
type packageTags struct {
	tags  []byte
	count int
}

// add takes an element if it names a package: <enclosure>, a link whose relation
// is "enclosure", or <media:content>. Letters may be of either case. base is the
// xml:base in scope, nil if there is none.
func (p *packageTags) add(root string, t xml.StartElement, base *url.URL) bool {
	var address, length string
	kind := attribute(t, "type")
	switch name := strings.ToLower(t.Name.Local); {
	case name == "enclosure": // RSS 1.0 has enc:enclosure with rdf:resource
		address, length = cmp.Or(attribute(t, "url"), attribute(t, "resource")), attribute(t, "length")
	case name == "link":
		rel := strings.ToLower(strings.TrimSpace(attribute(t, "rel")))
		if rel != "enclosure" && !strings.HasSuffix(rel, "/relation/enclosure") {
			return false
		}
		address, length = attribute(t, "href"), attribute(t, "length")
	case name == "content" && t.Name.Space != "" && attribute(t, "url") != "":
		address, length = attribute(t, "url"), attribute(t, "filesize")
		if medium := strings.ToLower(attribute(t, "medium")); kind == "" && (medium == "image" || medium == "audio" || medium == "video") {
			kind = medium + "/*"
		}
	default:
		return false
	}
	if p.count++; p.count > maxEnclosures {
		return true
	}
	if u, err := url.Parse(strings.TrimSpace(address)); err == nil && base != nil && !u.IsAbs() {
		address = resolve(base, u).String()
	}
	// One that is too long stays so, and is refused for it.
	address = show.Clip(address, maxURL+1)
	kind, length = withDigest(show.Clip(kind, 100), attribute(t, "sha256")), show.Clip(length, 100)
	name, link := "enclosure", "url"
	attrs := []xml.Attr{{Name: xml.Name{Local: "xmlns"}}} // the parser knows it in no namespace
	if root == "feed" {
		name, link = "link", "href"
		attrs = append(attrs, attr("rel", "enclosure"))
	}
	b := bytes.NewBuffer(p.tags)
	writeStart(b, xml.Name{Local: name}, append(attrs, attr(link, address), attr("length", length), attr("type", kind)), "/")
	p.tags = b.Bytes()
	return true
}

func attr(name, value string) xml.Attr { return xml.Attr{Name: xml.Name{Local: name}, Value: value} }

// attribute returns the value of an attribute in any case and with any prefix;
// one without a prefix goes before.
func attribute(t xml.StartElement, name string) (value string) {
	for _, a := range t.Attr {
		switch {
		case isNamespace(a) || !strings.EqualFold(a.Name.Local, name):
		case a.Name.Space == "":
			return a.Value
		default:
			value = cmp.Or(value, a.Value)
		}
	}
	return value
}

func isNamespace(a xml.Attr) bool {
	return a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns"
}

// writeStart writes a start tag; slash is "/" if the element is empty.
func writeStart(b *bytes.Buffer, name xml.Name, attrs []xml.Attr, slash string) {
	b.WriteString("<" + qname(name))
	for _, a := range attrs {
		b.WriteString(" " + qname(a.Name) + `="`)
		xml.EscapeText(b, []byte(a.Value)) // a bytes.Buffer does not fail
		b.WriteByte('"')
	}
	b.WriteString(slash + ">")
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
