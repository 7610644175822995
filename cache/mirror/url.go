package mirror

import (
	"net/url"
	"strings"
)

// maxURL is the longest URL that a mirror is asked for, in bytes.
const maxURL = 8 << 10

// MapURL returns where the mirror at base has the object at to:
// BASE/SCHEME/HOST[:PORT]/PATH?QUERY. ok is false for a URL that a mirror could take for
// another one: caches resolve dot segments, join slashes and decode what is escaped.
func MapURL(base, to *url.URL) (at *url.URL, ok bool) {
	host := strings.ToLower(to.Host)
	host = strings.TrimSuffix(host, map[string]string{"http": ":80", "https": ":443"}[to.Scheme])
	path := to.EscapedPath()
	if path == "" {
		path = "/"
	}
	if to.Scheme != "http" && to.Scheme != "https" || to.User != nil || to.Opaque != "" || !plainHost(host) || !plainPath(path) || !plainQuery(to.RawQuery) {
		return nil, false
	}
	raw := strings.TrimSuffix(base.EscapedPath(), "/") + "/" + to.Scheme + "/" + host + path
	plain, err := url.PathUnescape(raw)
	if err != nil || len(raw)+len(to.RawQuery) > maxURL {
		return nil, false
	}
	return &url.URL{Scheme: base.Scheme, Host: base.Host, Path: plain, RawPath: raw, RawQuery: to.RawQuery}, true
}

// plainHost tells a name or an address with a port, if there is one.
func plainHost(host string) bool {
	for _, c := range []byte(host) {
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || strings.IndexByte(".-_:[]", c) >= 0) {
			return false
		}
	}
	return host != "" && host[0] != '.'
}

// plainPath tells a path that stays the same when it is decoded, normalized and
// encoded again.
func plainPath(path string) bool {
	plain, err := url.PathUnescape(path)
	if err != nil || path[0] != '/' || strings.Contains(plain, "//") || strings.Count(plain, "/") != strings.Count(path, "/") ||
		strings.ContainsAny(plain, "%?#\\;") {
		return false
	}
	for part := range strings.SplitSeq(plain, "/") {
		if part == "." || part == ".." {
			return false
		}
	}
	return !hasControl(plain)
}

func plainQuery(q string) bool { return !hasControl(q) && !strings.ContainsAny(q, "# ") }

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
