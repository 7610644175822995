package mirror

import (
	"net/url"
	"path"
	"strings"
	"testing"
)

func parse(t *testing.T, raw string) *url.URL {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestH21MapURL(t *testing.T) {
	for _, x := range []struct{ base, to, want string }{
		{"http://rack:8080", "https://example.org/a.xvm", "http://rack:8080/https/example.org/a.xvm"},
		{"http://rack:8080/", "https://Example.ORG:443/a.xvm?k=v&x=%20", "http://rack:8080/https/example.org/a.xvm?k=v&x=%20"},
		{"https://rack/vm/", "http://10.0.0.1:8000/d%20e/f", "https://rack/vm/http/10.0.0.1:8000/d%20e/f"},
		{"http://rack", "http://[fe80::1]:81", "http://rack/http/[fe80::1]:81/"},
		{"http://rack", "https://e.org/ü", "http://rack/https/e.org/%C3%BC"},
		// What a cache could take for something else.
		{"http://rack", "https://e.org/a/../b", ""},
		{"http://rack", "https://e.org/../other.org/b", ""},
		{"http://rack", "https://e.org/%2e%2e/other.org/b", ""},
		{"http://rack", "https://e.org/a//b", ""},
		{"http://rack", "https://e.org/a%2Fb", ""},
		{"http://rack", "https://e.org/a%3Fb", ""},
		{"http://rack", "https://e.org/a%0d%0aHost:x", ""},
		{"http://rack", "https://e%2forg/a", ""},
		{"http://rack", "https://../a", ""},
		{"http://rack", "https://user:pw@e.org/a", ""},
		{"http://rack", "ftp://e.org/a", ""},
	} {
		to, err := url.Parse(x.to)
		if err != nil {
			continue // nobody gets that far with it
		}
		at, ok := MapURL(parse(t, x.base), to)
		if got := ""; ok {
			if got = at.String(); got != x.want {
				t.Errorf("%s: %s, want %q", x.to, got, x.want)
			}
		} else if x.want != "" {
			t.Errorf("%s is not mapped", x.to)
		}
	}
}

// FuzzMapURL: whatever a feed names, the mirror alone is asked, below the prefix of that origin,
// also after a cache has normalized the path; and no two objects become one.
func FuzzMapURL(f *testing.F) {
	for _, s := range []string{"https://example.org/a.xvm?x=1", "http://h:81/a/../b", "https://h/%2e%2e/%2f", "http://[::1]/a b", "https://h/a#f", "http://h:80"} {
		f.Add(s)
	}
	base := &url.URL{Scheme: "http", Host: "rack:8080", Path: "/vm"}
	f.Fuzz(func(t *testing.T, raw string) {
		to, err := url.Parse(raw)
		if err != nil {
			return
		}
		at, ok := MapURL(base, to)
		if !ok {
			return
		}
		again, err := url.Parse(at.String())
		if err != nil || again.Scheme != "http" || again.Host != "rack:8080" || again.User != nil || again.Fragment != "" {
			t.Fatalf("%q became %q: %v", raw, at, err)
		}
		prefix := "/vm/" + to.Scheme + "/"
		rest, found := strings.CutPrefix(again.EscapedPath(), prefix)
		host, object, slash := strings.Cut(rest, "/")
		if !found || !slash || host == "" || !strings.EqualFold(host, to.Host) && !strings.HasPrefix(strings.ToLower(to.Host), host+":") {
			t.Fatalf("%q became %q", raw, at)
		}
		if clean := path.Clean(again.Path); clean != strings.TrimSuffix(again.Path, "/") {
			t.Fatalf("%q is normalized to %q", again.Path, clean)
		}
		if want := strings.TrimPrefix(to.EscapedPath(), "/"); object != want || again.RawQuery != to.RawQuery {
			t.Fatalf("%q became %q", raw, at)
		}
	})
}
