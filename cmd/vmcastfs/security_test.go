package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"vmcastfs/feed"
	"vmcastfs/xvm"
)

// TestLimitsAreTrue compares the table of limits with the limits.
func TestLimitsAreTrue(t *testing.T) {
	t.Parallel()
	doc := docFile("security")
	for line, values := range map[string][]int{
		"a feed":                  {feed.MaxBody >> 20, feed.MaxItems, feed.MaxDepth},
		"manifest":                {xvm.MaxManifestSize >> 20, xvm.MaxManifestEntries},
		"description":             {xvm.MaxDescriptionSize >> 20},
		"signature file, keyring": {xvm.MaxSignatureSize >> 10, xvm.MaxSignatures, xvm.MaxKeyringSize >> 20, xvm.MaxKeyringKeys},
		"block list":              {xvm.MaxListSums, xvm.MaxListBlocks},
		"boot profile":            {xvm.MaxProfileSize >> 20, xvm.MaxProfileReads},
		"sidecar":                 {xvm.MaxSidecarMembers, xvm.MaxSidecarPoints >> 20},
		"status of another mount": {maxStatus >> 20, int(statusLimit.Seconds())},
		"a hook":                  {int(hookLimit.Seconds()), hookOutput >> 10, hookEvents},
	} {
		_, rest, found := strings.Cut(doc, "\n| "+line+" |")
		rest, _, _ = strings.Cut(rest, "\n")
		for _, v := range values {
			if !found || !regexp.MustCompile(fmt.Sprintf(`\b%d\b`, v)).MatchString(rest) {
				t.Errorf("%q does not say %d: %s", line, v, rest)
			}
		}
	}
	// Those that are nobody's but their package's, by its source.
	for _, limit := range []struct{ doc, room, source string }{
		{"| a feed | 16 MiB, decoded; 20000 items; 64 levels; 1 minute", "cache/remote", "set(&o.DocumentTimeout, time.Minute)"},
		{"| a URL, a header, redirects | 8 KiB", "cache/remote", "maxURL = 8 << 10"},
		{"; 64 KiB; 10 |", "cache/remote", "maxHeader = 64 << 10"},
		{"; 64 KiB; 10 |", "cache/remote", "maxHops = 10\n"},
		{"| pauses between attempts | 30 seconds", "cache/remote", "set(&o.RetryMax, 30*time.Second)"},
		{"30 seconds; 2 minutes where", "cache/remote", "set(&o.RetryAfterMax, 2*time.Minute)"},
		{"| an archive | 65536 entries", "xvm", "cmp.Or(lim.Members, 65536)"},
		{" 16 MiB of headers", "xvm", "cmp.Or(lim.HeaderBytes, 16<<20)"},
		{" 262144 sparse regions", "xvm", "cmp.Or(lim.Regions, 262144)"},
		{" 64 TiB apparent size", "xvm", "cmp.Or(lim.Size, 64<<40)"},
		{" 32768 requests", "xvm", "cmp.Or(lim.Requests, 32768)"},
		{"| its indexing | 30 seconds", "fs/catalog", "indexTimeout = 30 * time.Second\n"},
		{"tried again after 5 |", "fs/catalog", "indexPause = 5 * time.Second\n"},
		{"| members held in memory | 4 MiB each", "xvm", "MaxMeta = 4 << 20"},
		{" 16 MiB for a package", "xvm", "maxSmall = 16 << 20"},
		{"all lists in memory 32 MiB", "fs/catalog", "maxListMemory = 32 << 20"},
		{"| sidecar | 1 GiB", "fs/catalog", "maxSidecar = 1 << 30\n"},
		{"| inflating | 16 TiB plain", "fs/catalog", "MaxInflated = 16 << 40\n"},
		{"65536 times the stored size", "xvm/seekable", "def(&o.MaxRatio, 65536)"},
		{"128 MiB of window", "xvm/seekable", "def(&o.MaxWindow, 128<<20)"},
		{"| memory of decoders for files | 260 MiB", "fs/catalog", "InflateMemory = 260 << 20\n"},
		{"| a look at images that are checked whole first | 4 MiB", "fs/catalog", "maxUnasked = 4 << 20"},
		{"| finding out plain sizes | 5 seconds", "fs/catalog", "sizeTime = 5 * time.Second"},
		{" 2 minutes behind it", "fs/catalog", "sizeBackgroundTime = 2 * time.Minute"},
		{"| names of releases | 160 bytes", "feed", "maxName = 160\n"},
		{" 100000 remembered", "feed", "maxNames = 5 * MaxItems\n"},
	} {
		if !strings.Contains(doc, limit.doc) || !strings.Contains(sourceBelow(t, filepath.Join("..", "..", limit.room)), limit.source) {
			t.Errorf("not both hold: security.md says %q, %s %q", limit.doc, limit.room, limit.source)
		}
	}
}

// sourceBelow is the text of the Go files in a directory and below it, with one
// space for several.
func sourceBelow(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
			b.WriteString(sourceOf(t, path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return regexp.MustCompile(` +`).ReplaceAllString(b.String(), " ")
}

// sourceOf is the text of a file.
func sourceOf(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
