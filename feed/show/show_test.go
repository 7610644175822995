package show

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

func ExampleText() {
	fmt.Println(Text("\x1b[1;31mDebian\x1b[0m\t12 \u202e"))
	fmt.Println(URL("https://user:secret@example.org/a.xvm?token=secret#x"))
	// Output:
	// Debian 12
	// https://example.org/a.xvm?...
}

func TestN3Text(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"plain text":               "plain text",
		"  two  spaces ":           "two spaces",
		"a\r\nb\tc\u00a0d\u2028e":  "a b c d e",
		"\x1b[1;31mred\x1b[0m":     "red",
		"\x1b[?1049hx":             "x",
		"\x1b]0;title\x07x":        "x",
		"\x1bP1$r\x1b\\x":          "x",
		"\x1bcx\x1b(By\x1b":        "xBy",
		"\x1b]never ends":          "never ends",
		"\u009b31mx\u0090q\u009cy": "xy",
		"\xff\xfea\xc3":            "a",
		"a\x07\x08\x7fb":           "ab",
		"é\u202e\u2067日本":          "é日本",
		"日\ue000\U000f0000\u0378":  "日",
	} {
		got := Text(in)
		if got != want {
			t.Errorf("Text(%q) = %q, want %q", in, got, want)
		}
		if again := Text(got); again != got {
			t.Errorf("Text(%q) = %q: not stable", got, again)
		}
	}
}

func TestClip(t *testing.T) {
	for n := range 16 {
		if got := Clip("aéé 日本 x", n); len(got) > n || !utf8.ValidString(got) || !strings.HasPrefix("aéé 日本 x", got) {
			t.Errorf("%d: %q", n, got)
		}
	}
}

func TestURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://u:p@example.org/a%20b/c?q=1#f": "https://example.org/a%20b/c?...",
		"http://h/\x1b]0;x":                     "(invalid URL)",
		"http://h/%1b%5d":                       "http://h/%1b%5d",
		"mailto:u@h":                            "(invalid URL)",
		"http://h/" + strings.Repeat("x", 9000): "http://h/" + strings.Repeat("x", 1015) + "...",
	} {
		if got := URL(raw); got != want {
			t.Errorf("%.50q is shown as %.80q", raw, got)
		}
	}
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{"/srv/a b.xml": "/srv/a b.xml", "a\x1b[2J": "a", "http://u:p@h/x?y": "http://h/x?..."} {
		if got := Address(in); got != want {
			t.Errorf("%q is shown as %q", in, got)
		}
	}
}

// FuzzURL holds that nothing secret is shown of a URL, and nothing that a terminal
// obeys.
func FuzzURL(f *testing.F) {
	for _, s := range []string{"http://h/a", "HTTPS://user:secret@h:443/a?token=secret#f", "//other/x", "http:a", "http://h/\x1b[2J\u202e", "http://h/%1b[2J"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, shown := range []string{URL(raw), Address(raw)} {
			if Text(shown) != shown || strings.ContainsAny(shown, "\x00\x1b\n\r\u202e") {
				t.Errorf("%q is shown as %q", raw, shown)
			}
		}
		if u, err := url.Parse(raw); err == nil && u.User != nil && strings.Contains(URL(raw), "@") && !strings.Contains(u.Host+u.EscapedPath(), "@") {
			t.Errorf("%q is shown as %q", raw, URL(raw))
		}
	})
}
