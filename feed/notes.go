package feed

import (
	"html"
	"regexp"
	"slices"
	"strings"
	"vmcastfs/feed/show"

	"github.com/microcosm-cc/bluemonday"
	nethtml "golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plainText makes a title of what may be HTML: tags and entities of HTML become
// the text that a browser would show. What only looks like a tag (a machine called
// "<test>", "a < b") is text.
func plainText(s string) string {
	if !strings.Contains(s, "<") {
		return show.Text(unescape(s))
	}
	var b strings.Builder
	for z := nethtml.NewTokenizer(strings.NewReader(s)); ; {
		switch z.Next() {
		case nethtml.ErrorToken:
			b.Write(z.Raw())
			return show.Text(unescape(b.String()))
		case nethtml.CommentToken, nethtml.DoctypeToken:
		case nethtml.TextToken:
			b.Write(z.Raw())
		default:
			raw := string(z.Raw())
			name, _ := z.TagName()
			b.WriteString(tagText(name, raw))
		}
	}
}

// tagText is what a tag in a title leaves there: nothing if it is one of HTML, a
// space if it begins another line, else itself, because it only looks like a tag.
func tagText(name []byte, raw string) string {
	switch atom.Lookup(name) {
	case 0:
		return raw
	case atom.Br, atom.P, atom.Div, atom.Hr, atom.Li, atom.Ul, atom.Ol, atom.Dt, atom.Dd, atom.Table, atom.Tr, atom.Td, atom.Th,
		atom.H1, atom.H2, atom.H3, atom.H4, atom.H5, atom.H6, atom.Pre, atom.Blockquote:
		return " "
	}
	return ""
}

var reference = regexp.MustCompile(`&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});`)

// unescape decodes character references that end in a semicolon. Browsers
// decode some without one: in a title, "AT&copy=2" is text.
func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	return reference.ReplaceAllStringFunc(s, func(ref string) string {
		if text := html.UnescapeString(ref); text != html.UnescapeString(ref[:len(ref)-1])+";" {
			return text
		}
		return ref
	})
}

// notesPolicy is what release notes may hold: structure, emphasis, and links to
// http, https and mailto. It is read-only.
var notesPolicy = func() *bluemonday.Policy {
	p := bluemonday.NewPolicy()
	p.AllowElements("abbr", "b", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5", "h6",
		"hr", "i", "ins", "kbd", "li", "ol", "p", "pre", "s", "samp", "small", "span", "strong", "sub", "sup",
		"table", "tbody", "td", "tfoot", "th", "thead", "tr", "tt", "u", "ul", "var")
	p.AllowNoAttrs().OnElements("a", "span")
	p.AllowAttrs("href").OnElements("a")
	p.AllowURLSchemes("http", "https", "mailto")
	p.RequireParseableURLs(true)
	p.SkipElementsContent("applet", "head", "math", "plaintext", "select", "svg", "template", "textarea", "xmp")
	return p
}()

// sanitizeHTML makes release notes harmless to look at, in a browser or on a
// terminal. Scripts, styles, frames, pictures, all attributes but the target of a
// link, and the characters that [show.Text] would remove go. Elements left open
// are closed. The result is at most 64 KiB, the rest being cut off. Sanitising it
// again changes nothing.
func sanitizeHTML(s string) string {
	s = cleanLines(show.Clip(s, maxItemBytes))
	if strings.ContainsAny(s, "<&") {
		s = cleanLines(notesPolicy.Sanitize(s)) // again: references have become characters
	} else {
		s = html.EscapeString(s)
	}
	return balance(s)
}

// balance closes what is left open in the output of the policy, and cuts it at
// maxNotes bytes and MaxDepth levels.
func balance(s string) string {
	var (
		b    strings.Builder
		open []string
		room = maxNotes // what is open has its end tag paid
	)
	for z := nethtml.NewTokenizer(strings.NewReader(s)); room > 0; {
		kind := z.Next()
		if kind == nethtml.ErrorToken {
			break
		}
		raw := string(z.Raw())
		name, _ := z.TagName()
		end := "</" + string(name) + ">"
		void := kind != nethtml.TextToken && (string(name) == "br" || string(name) == "hr")
		switch {
		case kind == nethtml.TextToken:
			if len(raw) > room {
				raw = show.Clip(raw, room)
				if cut := strings.LastIndexByte(raw, '&'); cut >= 0 && !strings.Contains(raw[cut:], ";") {
					raw = raw[:cut]
				}
				room = len(raw)
			}
		case kind == nethtml.EndTagToken && !void && len(open) > 0 && open[len(open)-1] == string(name):
			open = open[:len(open)-1]
			b.WriteString(raw)
			continue
		case kind == nethtml.EndTagToken:
			continue
		case void:
			raw = "<" + string(name) + ">"
		case len(open) == MaxDepth:
			continue
		default:
			room -= len(end)
			if len(raw) <= room {
				open = append(open, string(name))
			}
		}
		if room -= len(raw); room >= 0 {
			b.WriteString(raw)
		}
	}
	for _, name := range slices.Backward(open) {
		b.WriteString("</" + name + ">")
	}
	return strings.TrimSpace(b.String())
}

// cleanLines is [show.Text] for text of several lines: white space stays.
func cleanLines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == ' ' || show.Visible(r) {
			return r
		}
		if r == '\u00a0' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return -1
	}, s)
}
