package catalog

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/feed"
	"vmcastfs/xvm"
)

var update = flag.Bool("update", false, "write testdata/golden/contents.txt anew")

// One package of every dialect, made once by plain tar and friends
// (testdata/golden/make.sh), shows what it has always shown: names, sizes,
// formats, contents, states, and what the description says.
func TestGolden(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("testdata", "golden")
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t)
	for _, e := range entries {
		if name := e.Name(); name != "make.sh" && name != "contents.txt" {
			raw, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			s.origin.PutBytes("/"+name, raw)
			s.items = append(s.items, feed.Entry{ID: name, Title: name, URL: s.origin.URL() + "/" + name, Length: int64(len(raw)), Published: testTime})
		}
	}
	s.publish(s.items...)
	h := s.open()
	var got strings.Builder
	for _, item := range s.items {
		var release *Release
		for _, r := range h.Snapshot().Releases() {
			if r.Item().ID == item.ID {
				release = r
			}
		}
		p, err := release.Package(t.Context())
		if err != nil {
			t.Errorf("%s: %v", item.ID, err)
			continue
		}
		fmt.Fprintf(&got, "%s\n", item.ID)
		warnings, _ := p.Faults()
		for _, w := range warnings {
			fmt.Fprintf(&got, "  warning: %s\n", w)
		}
		h.settle(release.Name())
		for _, f := range p.All() {
			content := h.read(release.Name(), f.Name())
			if st := f.Status(); st.Image || len(st.Parts) > 0 {
				if err := h.complete(release.Name(), f.Name()); err != nil {
					t.Errorf("%s/%s: %v", item.ID, f.Name(), err)
				}
			}
			format, _ := f.Attr("user.vmcast.format")
			parts, _ := f.Attr("user.vmcast.parts")
			fmt.Fprintf(&got, "  %s %d %s %x %s %q\n", f.Name(), f.Size(), f.Status().State, sha256.Sum256(content), orDash(format), parts)
		}
		for _, f := range p.All() {
			if f.Status().Image || !strings.HasSuffix(f.Name(), ".xml") && !strings.HasSuffix(f.Name(), ".ovf") {
				continue
			}
			d, err := xvm.ParseDescription(h.read(release.Name(), f.Name()))
			if err != nil {
				t.Errorf("%s/%s: %v", item.ID, f.Name(), err)
				continue
			}
			fmt.Fprintf(&got, "  %s: %+v\n", f.Name(), *d)
		}
	}
	path := filepath.Join(dir, "contents.txt")
	if *update {
		mustWrite(t, path, []byte(got.String()))
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		gotLines, wantLines := strings.Split(got.String(), "\n"), strings.Split(string(want), "\n")
		for i := range max(len(gotLines), len(wantLines)) {
			if i >= len(gotLines) || i >= len(wantLines) || gotLines[i] != wantLines[i] {
				t.Fatalf("line %d of %s: is\n%q, was\n%q", i+1, path, gotLines[min(i, len(gotLines)):min(i+1, len(gotLines))], wantLines[min(i, len(wantLines)):min(i+1, len(wantLines))])
			}
		}
	}
}

func orDash(b []byte) string {
	if len(b) == 0 {
		return "-"
	}
	return string(b)
}
