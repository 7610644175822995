package main

import "regexp"

var (
	urlUser  = regexp.MustCompile(`(?i)(\b[a-z][a-z0-9+.-]*://)[^\s"'/?#@]*@`)
	urlQuery = regexp.MustCompile(`(?i)(\bhttps?://[^\s"'?]*)\?[^\s"'\\]*[^\s"'\\:;,.]`)
)

// scrub takes out of the URLs in a text what may let somebody in: user and
// password, and the query, which holds the signature of signed URLs.
func scrub(text []byte) []byte {
	text = urlUser.ReplaceAll(text, []byte("$1"))
	return urlQuery.ReplaceAll(text, []byte("$1?..."))
}
