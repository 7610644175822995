package feed

import (
	"fmt"
	"testing"
)

func TestURLKey(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{
		"https://example.org/a.xvm":            "https://example.org/a.xvm",
		"https://u:p@example.org/a.xvm#x":      "https://example.org/a.xvm",
		"https://example.org/get?id=7&v=2":     "https://example.org/get?id=7&v=2",
		"https://example.org/get?id=7&md5sum=": "https://example.org/get?id=7&md5sum=",
		"https://b.s3.amazonaws.com/a.xvm?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F2&X-Amz-Date=20260101T000000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=00": "https://b.s3.amazonaws.com/a.xvm",
		"https://b.s3.amazonaws.com/a.xvm?versionId=3&AWSAccessKeyId=A&Expires=1&Signature=x%3D":                                                                                             "https://b.s3.amazonaws.com/a.xvm?versionId=3",
		"https://d.cloudfront.net/a.xvm?Expires=1&Signature=x~&Key-Pair-Id=K":                                                                                                                "https://d.cloudfront.net/a.xvm",
		"https://a.blob.core.windows.net/c/a.xvm?sv=2024&st=1&se=2&sr=b&sp=r&sig=x%2B":                                                                                                       "https://a.blob.core.windows.net/c/a.xvm",
		"https://example.org/a.xvm?md5=x&expires=1":                                                                                                                                          "https://example.org/a.xvm",
		"https://example.org/get?sp=1&st=2&expires=never":                                                                                                                                    "https://example.org/get?sp=1&st=2&expires=never",
		"https://example.org/get?X-Amz-Date=1":                                                                                                                                               "https://example.org/get?X-Amz-Date=1",
		"https://example.org/get?file=a.xvm&Signature=1&k=v2":                                                                                                                                "https://example.org/get?file=a.xvm&k=v2",
		"https://[bad": "(an unusable URL)",
	} {
		if got := URLKey(raw); got != want {
			t.Errorf("%s\nis at   %s\nwant is %s", raw, got, want)
		}
	}
}

// TestSignedURLsKeepTheirRelease: without a guid an item is known by its package's
// place, not by who may fetch it until when.
func TestSignedURLsKeepTheirRelease(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for i := range 2 {
		f, err := parseAt(fmt.Appendf(nil, `<rss version="2.0"><channel><title>t</title><item><title>one</title>`+
			`<enclosure url="https://example.org/one.xvm?X-Amz-Date=%d&amp;X-Amz-Signature=%d" length="1" type="application/x-xvm"/>`+
			`</item></channel></rss>`, i, i), "https://example.org/feed.xml")
		if err != nil || len(f.Releases) != 1 {
			t.Fatal(f, err)
		}
		ids[f.Releases[0].ID] = true
	}
	if len(ids) != 1 {
		t.Errorf("a URL signed anew is another release: %v", ids)
	}
}
