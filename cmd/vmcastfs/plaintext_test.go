package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"vmcastfs/fs/catalog"
)

func TestPlainText(t *testing.T) {
	const evil = "a\x1b[2Jb\u009b\u202ec\u200b\U000e0041\xff\r\n\tü日"
	wantPlain(t, "text", plainText(evil))
	if got := plainText("a\n\tü日"); got != "a\n\tü日" {
		t.Errorf("%q", got)
	}
	var b bytes.Buffer
	enc := newJSON(&b)
	enc.SetIndent("", "  ")
	want := map[string]string{"k\u202e": strings.ToValidUTF8(evil, "")}
	if err := enc.Encode(want); err != nil {
		t.Fatal(err)
	}
	wantPlain(t, "JSON", b.String())
	var got map[string]string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || got["k\u202e"] != want["k\u202e"] {
		t.Errorf("%s: %v, %q", b.Bytes(), err, got)
	}
}

// FuzzStatus prints what somebody else's mount says is its status.
func FuzzStatus(f *testing.F) {
	f.Add([]byte(`{"version":1,"feed":{"url":"http://h/","title":"t\u001b[2J\u202e","last_error":"e","stale":true,"last_success":"2026-01-01T00:00:00Z","next":"9999-01-01T00:00:00Z"},
		"releases":[{"name":"../\u009b2J","id":"1","state":"\u001b]0;x\u0007","error":"e","trust":{"manifest":{"state":"bad","reason":"\u202e"}},
		"files":[{"name":"a\u0000b","size":-5,"state":"partial\u001b[2J","percent":1e308,"cached_bytes":-1,"image":true,"open":true,"last_error":"x","last_error_at":"0001-01-01T00:00:00Z"}]}],
		"cache":{"bytes":-1,"limit":1,"free":-9223372036854775808,"files":-1,"damaged":1,"full":1},"reads":{},
		"origins":[{"origin":"\u009d","latency":{"counts":[-1,1],"sum":1e308},"bytes":{"demand":-1},"last_error":"x"}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		now := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
		st, again := new(catalog.Status), new(catalog.Status)
		if json.Unmarshal(raw, st) != nil || json.Unmarshal(raw, again) != nil {
			return
		}
		m := mountStatus{Dir: "/mnt\u202e", Feed: "x", State: "mounted", Status: st, at: now}
		for _, r := range again.Releases {
			for i := range r.Files {
				r.Files[i].CachedBytes += 1000
			}
		}
		later := mountStatus{Dir: "/mnt", Feed: "x", State: "mounted", Status: again, at: now.Add(time.Second)}
		later.measure(&m)
		var text, doc bytes.Buffer
		if err := printStatus(&text, screen{width: 80}, []mountStatus{m, later, {Dir: "/x", State: "hung", Error: string(raw)}}, now); err != nil {
			t.Fatal(err)
		}
		wantPlain(t, "status", text.String())
		if newJSON(&doc).Encode([]mountStatus{m}) == nil {
			wantPlain(t, "status --json", doc.String())
		}
	})
}

// wantPlain fails if text has anything that a terminal may act upon.
func wantPlain(t testing.TB, what, text string) {
	t.Helper()
	if i := strings.IndexFunc(text, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }); i >= 0 || !utf8.ValidString(text) {
		t.Errorf("%s is not plain at %d: %.200q", what, i, text)
	}
}
