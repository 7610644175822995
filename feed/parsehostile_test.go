package feed

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestF1EntityBomb(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\">")
	for i := range 9 {
		fmt.Fprintf(&b, `<!ENTITY l%d "%s">`, i, strings.Repeat("&lol;", 10))
	}
	b.WriteString("]>" + rssOf(item("&l8;", "1", "")))
	for _, body := range []string{
		b.String(),
		`<!DOCTYPE rss [<!ENTITY a "b">]>` + rssOf(),
		"<!DOC\x00TYPE rss [<!ENTITY a 'b'>]>" + rssOf(), // the NUL goes first
		`<!ENTITY a "b">` + rssOf(),
		`<!DOCTYPE rss [` + rssOf(),
		`<rss><!DOCTYPE x [<!ENTITY a "b">]></rss>`,
		`<!doctype rss [<!entity a "b">]>` + rssOf(),
	} {
		if f, err := parseAt([]byte(body), testBase); !errors.Is(err, errEntities) && !isSyntax(err) {
			t.Errorf("%.60q: %v, %v", body, f, err)
		}
	}
	if _, err := parseAt([]byte(b.String()), testBase); !errors.Is(err, errEntities) {
		t.Errorf("bomb: %v", err)
	}
}

func isSyntax(err error) bool {
	var s *syntaxError
	return errors.As(err, &s)
}

func TestF2ExternalEntity(t *testing.T) {
	t.Parallel()
	for _, id := range []string{`SYSTEM "file:///etc/passwd"`, `SYSTEM "http://127.0.0.1:1/x"`, `PUBLIC "-//x" "/etc/passwd"`} {
		body := `<!DOCTYPE rss [<!ENTITY xxe ` + id + `>]>` + rssOf(item("&xxe;", "1", ""))
		if _, err := parseAt([]byte(body), testBase); !errors.Is(err, errEntities) {
			t.Errorf("%s: %v", id, err)
		}
	}
	// An undeclared entity is plain text, an external DTD by name is never loaded.
	f := mustParse(t, `<!DOCTYPE rss SYSTEM "file:///etc/passwd">`+rssOf(item("&xxe;", "1", "")))
	if got := f.Releases[0].Title; got != "&xxe;" {
		t.Errorf("title %q", got)
	}
}

func TestF3Body(t *testing.T) {
	t.Parallel()
	big := make([]byte, MaxBody+1)
	if _, err := parseAt(big, testBase); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
	// One that grows beyond the limit in UTF-8 is no better.
	grown := append([]byte(`<?xml version="1.0" encoding="iso-8859-1"?><rss><channel><title>`), bytes.Repeat([]byte{0xe9}, MaxBody-200)...)
	if _, err := parseAt(append(grown, "</title></channel></rss>"...), testBase); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestF6Depth(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		rssOf(strings.Repeat("<a>", 1_000_000)),
		rssOf("<item>" + strings.Repeat("<a>", MaxDepth) + strings.Repeat("</a>", MaxDepth) + "</item>"),
		strings.Repeat("<rss>", 1_000_000),
	} {
		if _, err := parseAt([]byte(body), testBase); !errors.Is(err, errTooDeep) {
			t.Errorf("%.80q: %v", body, err)
		}
	}
	json := `{"version":"https://jsonfeed.org/version/1","items":` + strings.Repeat("[", 1_000_000)
	if _, err := parseAt([]byte(json), testBase); err == nil {
		t.Error("deep JSON was accepted")
	}
}

func TestF7Items(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	const n = MaxItems + 500
	for i := range n { // the newest are in the middle
		age := (i + n/2) % n
		b.WriteString(item("r", fmt.Sprint("g", age), time.Unix(1e9-int64(age), 0).UTC().Format(time.RFC1123)))
	}
	f := mustParse(t, rssOf(b.String()))
	if len(f.Releases) != MaxItems || !warned(f, "only the newest") {
		t.Fatalf("%d releases, %q", len(f.Releases), f.Warnings)
	}
	if f.Releases[0].ID != "g0" || f.Releases[MaxItems-1].ID != fmt.Sprint("g", MaxItems-1) {
		t.Errorf("kept %s to %s", f.Releases[0].ID, f.Releases[MaxItems-1].ID)
	}
}

// TestF7FarMoreItems has more of everything than any feed needs.
func TestF7FarMoreItems(t *testing.T) {
	t.Parallel()
	json := func(n int) string {
		return `{"version":"https://jsonfeed.org/version/1","items":[{}` + strings.Repeat(",{}", n) + `]}`
	}
	// A text in pieces is joined piece by piece.
	pieces := "<item><x:title>" + strings.Repeat("<![CDATA["+strings.Repeat("x", 100)+"]]><b/>", 4000) + "</x:title></item>"
	ok := item("ok", "ok", "")
	for name, c := range map[string]struct {
		body     string
		err      error  // nil: the item "ok" is left
		warnings string // what they say
	}{
		"empty items":         {rssOf(strings.Repeat("<item></item>", 300_000)), ErrNoReleases, ""},
		"empty JSON items":    {json(100_000), ErrNoReleases, ""},
		"items past all":      {rssOf(strings.Repeat("<item/>", maxListed+1)), errTooLarge, ""}, // not listed before they are found to hold nothing
		"JSON items past all": {json(maxListed), errTooLarge, ""},
		"unknown elements":    {rssOf("<item>" + strings.Repeat("<x/>a", maxEdits+2) + "</item>"), errTooLarge, ""},
		"text in pieces":      {rssOf(strings.Repeat(pieces, 20), ok), nil, ""},
		"items too large":     {rssOf(item(strings.Repeat("x", maxItemBytes), "big", ""), ok, "<item>"+strings.Repeat("<title/>", 8000)+"</item>"), nil, "2 items are left out"},
		"rubbish":             {rssOf(strings.Repeat("<x:y a='1'/>", 200_000), ok), nil, ""}, // nobody needs it, and it does not count
		"settings":            {rssOf(strings.Repeat("<ttl/>", 200_000)), errTooLarge, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := parseAt([]byte(c.body), testBase)
			if !errors.Is(err, c.err) {
				t.Fatalf("%+v, %v", f, err)
			}
			if c.err == nil && (len(f.Releases) != 1 || c.warnings != "" && !warned(f, c.warnings)) {
				t.Errorf("%d releases, %q", len(f.Releases), f.Warnings)
			}
		})
	}
}

func TestF8HTML(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		string(fixture(t, "portal.html")), "<html><body>hi</body></html>", "\n <!-- x --><HTML>", "<!doctype HTML><p>",
		"<script>location='/login'</script>", "\xef\xbb\xbf<!DOCTYPE html PUBLIC \"-//W3C//DTD XHTML 1.0 Strict//EN\" \"x\"><html/>",
	} {
		if _, err := parseAt([]byte(body), testBase); !errors.Is(err, ErrHTML) {
			t.Errorf("%.40q: %v", body, err)
		}
	}
	for _, body := range []string{"", " \n", "Not Found", "404", "{}", `{"error":"x"}`, "[]", "\x1f\x8b\x08\x00", "PK\x03\x04", "<", "<?xml version='1.0'?>"} {
		if _, err := parseAt([]byte(body), testBase); err == nil {
			t.Errorf("%q was accepted", body)
		}
	}
}
