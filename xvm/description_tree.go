package xvm

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/net/html/charset"
)

// xmlNode is an element with what is of use here. Namespaces are dropped: the
// documents use too many spellings of the same ones.
type xmlNode struct {
	name     string
	attrs    []xml.Attr
	text     string // character data directly within, trimmed
	children []*xmlNode
}

// parseXML reads a whole document within the limits of a description. A
// DOCTYPE is refused, hence entities beyond XML's own five are too.
func parseXML(b []byte) (*xmlNode, error) {
	if len(b) > MaxDescriptionSize {
		return nil, fmt.Errorf("%d bytes exceed the limit of %d", len(b), MaxDescriptionSize)
	}
	dec := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))))
	dec.CharsetReader = charset.NewReaderLabel
	var root *xmlNode
	var stack []*xmlNode
	var texts [][]byte // of the elements on the stack
	nodes := 0
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.New(cleanText(err.Error(), 200))
		}
		switch t := token.(type) {
		case xml.Directive:
			return nil, errors.New("it has a DOCTYPE")
		case xml.StartElement:
			if nodes += 1 + len(t.Attr); nodes > maxXMLNodes {
				return nil, fmt.Errorf("more than %d elements and attributes", maxXMLNodes)
			}
			if len(stack) == maxXMLDepth {
				return nil, fmt.Errorf("elements nest deeper than %d", maxXMLDepth)
			}
			n := &xmlNode{name: t.Name.Local, attrs: t.Attr}
			switch {
			case len(stack) > 0:
				parent := stack[len(stack)-1]
				parent.children = append(parent.children, n)
			case root != nil:
				return nil, errors.New("a second root element")
			default:
				root = n
			}
			stack = append(stack, n)
			texts = append(texts, nil)
		case xml.EndElement:
			last := len(stack) - 1
			stack[last].text = string(bytes.TrimSpace(texts[last]))
			stack, texts = stack[:last], texts[:last]
		case xml.CharData:
			if last := len(texts) - 1; last >= 0 {
				texts[last] = append(texts[last], t...)
			}
		}
	}
	if root == nil {
		return nil, errors.New("it holds no element")
	}
	return root, nil
}

// is compares the name of the element, whatever its case.
func (n *xmlNode) is(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(n.name, name) })
}

// child follows a path of names, taking the first child of each; nil when there
// is none. It may be called on nil.
func (n *xmlNode) child(path ...string) *xmlNode {
	for _, name := range path {
		n = n.first(name)
	}
	return n
}

// first returns the first child with any of the names, or nil; nil has none.
func (n *xmlNode) first(names ...string) *xmlNode {
	if n != nil {
		for _, c := range n.children {
			if c.is(names...) {
				return c
			}
		}
	}
	return nil
}

// all returns the children of the name.
func (n *xmlNode) all(name string) []*xmlNode {
	var found []*xmlNode
	if n != nil {
		for _, c := range n.children {
			if c.is(name) {
				found = append(found, c)
			}
		}
	}
	return found
}

// attr returns the first of the attributes that is there and not empty.
func (n *xmlNode) attr(names ...string) string {
	if n == nil {
		return ""
	}
	for _, name := range names {
		for _, a := range n.attrs {
			if strings.EqualFold(a.Name.Local, name) && a.Value != "" {
				return a.Value
			}
		}
	}
	return ""
}

// value is the text of the element; nil has none.
func (n *xmlNode) value() string {
	if n == nil {
		return ""
	}
	return n.text
}

// walk calls f for n and everything below it.
func (n *xmlNode) walk(f func(*xmlNode)) {
	if n == nil {
		return
	}
	f(n)
	for _, c := range n.children {
		c.walk(f)
	}
}
