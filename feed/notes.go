package feed

import (
	"strings"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"
)

// plainText makes a title of what may be HTML: tags of HTML vanish, their text
// stays. What only looks like a tag (a machine called "<test>", "a < b") is text.
func plainText(s string) string {
	if !strings.Contains(s, "<") {
		return Sanitize(s)
	}
	var b strings.Builder
	for z := html.NewTokenizer(strings.NewReader(s)); ; {
		switch z.Next() {
		case html.ErrorToken:
			b.Write(z.Raw())
			return Sanitize(b.String())
		case html.CommentToken, html.DoctypeToken:
		case html.TextToken:
			b.Write(z.Raw()) // entities were decoded once already
		default:
			raw := string(z.Raw())
			if name, _ := z.TagName(); atom.Lookup(name) == 0 {
				b.WriteString(raw)
			}
		}
	}
}

// allowed are the elements that release notes may use. Their attributes go,
// but for the target of a link.
var allowed = map[atom.Atom]bool{
	atom.A: true, atom.Abbr: true, atom.B: true, atom.Blockquote: true, atom.Br: true, atom.Code: true, atom.Dd: true,
	atom.Del: true, atom.Div: true, atom.Dl: true, atom.Dt: true, atom.Em: true, atom.H1: true, atom.H2: true,
	atom.H3: true, atom.H4: true, atom.H5: true, atom.H6: true, atom.Hr: true, atom.I: true, atom.Ins: true, atom.Kbd: true,
	atom.Li: true, atom.Ol: true, atom.P: true, atom.Pre: true, atom.S: true, atom.Samp: true, atom.Small: true,
	atom.Span: true, atom.Strong: true, atom.Sub: true, atom.Sup: true, atom.Table: true, atom.Tbody: true, atom.Td: true,
	atom.Tfoot: true, atom.Th: true, atom.Thead: true, atom.Tr: true, atom.Tt: true, atom.U: true, atom.Ul: true, atom.Var: true,
}

// swallowed are the elements that go with all they contain.
var swallowed = map[atom.Atom]bool{
	atom.Script: true, atom.Style: true, atom.Iframe: true, atom.Object: true, atom.Embed: true, atom.Applet: true,
	atom.Noscript: true, atom.Template: true, atom.Svg: true, atom.Math: true, atom.Title: true, atom.Head: true,
	atom.Textarea: true, atom.Select: true, atom.Xmp: true, atom.Noembed: true, atom.Noframes: true, atom.Plaintext: true,
}

// SanitizeHTML makes release notes harmless to look at, in a browser or on a
// terminal: only structure, emphasis and links to http, https and mailto
// remain; scripts, styles, frames, pictures and all other attributes go, and
// so do the characters that [Sanitize] would remove. Elements left open are
// closed. The result is at most 64 KiB, the rest being cut off, and sanitising
// it again changes nothing.
func SanitizeHTML(s string) string {
	w := notesWriter{room: maxNotes}
	z := html.NewTokenizer(strings.NewReader(strings.ToValidUTF8(clip(s, maxItemBytes), "")))
	for w.room > 0 {
		kind := z.Next()
		if kind == html.ErrorToken {
			break
		}
		w.token(z.Token())
	}
	return w.finish()
}

// notesWriter writes the harmless part of a stream of HTML tokens.
type notesWriter struct {
	b    strings.Builder
	room int       // bytes that may yet be written; what is open has its end tags paid
	open []string  // elements written and not yet closed
	skip atom.Atom // the swallowed element we are inside of, 0: none
	deep int       // how often
}

func (w *notesWriter) token(t html.Token) {
	end := t.Type == html.EndTagToken
	switch {
	case w.skip != 0:
		if t.DataAtom == w.skip && end {
			w.deep--
		} else if t.DataAtom == w.skip && t.Type == html.StartTagToken {
			w.deep++
		}
		if w.deep == 0 {
			w.skip = 0
		}
	case t.Type == html.TextToken:
		text := cleanLines(t.Data)
		esc := html.EscapeString(text)
		for len(esc) > w.room {
			text = clip(text, min(len(text)/2, w.room))
			esc = html.EscapeString(text)
			defer func() { w.room = 0 }()
		}
		w.write(esc)
	case t.Type == html.CommentToken || t.Type == html.DoctypeToken:
	case swallowed[t.DataAtom]:
		if t.Type == html.StartTagToken && t.DataAtom != atom.Embed {
			w.skip, w.deep = t.DataAtom, 1
		}
	case !allowed[t.DataAtom]:
	case t.DataAtom == atom.Br || t.DataAtom == atom.Hr:
		if !end {
			w.write("<" + t.Data + ">")
		}
	case end:
		if n := len(w.open); n > 0 && w.open[n-1] == t.Data {
			w.open = w.open[:n-1]
			w.b.WriteString("</" + t.Data + ">")
		}
	case len(w.open) < MaxDepth:
		tag := "<" + t.Data + href(t) + ">"
		if w.room -= len("</" + t.Data + ">"); w.write(tag) {
			w.open = append(w.open, t.Data)
		}
	}
}

// write writes s whole or, for want of room, neither s nor anything after it.
func (w *notesWriter) write(s string) bool {
	if w.room -= len(s); w.room < 0 {
		return false
	}
	w.b.WriteString(s)
	return true
}

func (w *notesWriter) finish() string {
	for i := len(w.open) - 1; i >= 0; i-- {
		w.b.WriteString("</" + w.open[i] + ">")
	}
	return strings.TrimSpace(w.b.String())
}

// href is the attribute of a link worth keeping, with its leading space.
func href(t html.Token) string {
	if t.DataAtom != atom.A {
		return ""
	}
	for _, a := range t.Attr {
		v := Sanitize(a.Val)
		l := strings.ToLower(v)
		if a.Key == "href" && (strings.HasPrefix(l, "http://") || strings.HasPrefix(l, "https://") || strings.HasPrefix(l, "mailto:")) {
			return ` href="` + html.EscapeString(v) + `"`
		}
	}
	return ""
}

// cleanLines is Sanitize for text of several lines: white space stays.
func cleanLines(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\n' || r == '\t' || r == ' ' || visible(r) {
			return r
		}
		if r == '\u00a0' || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return -1
	}, s)
}
