package catalog

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vmcastfs/feed"
)

// What the golden archives show is what tar extracts from them, and the plain
// content of a compressed member what gzip makes of that: contents.txt says only
// that it is what it was.
func TestGoldenIsWhatTarExtracts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	paths, err := filepath.Glob(filepath.Join("testdata", "golden", "*"))
	if err != nil {
		t.Fatal(err)
	}
	members := make(map[string][]string)
	for _, path := range paths {
		name := filepath.Base(path)
		if !strings.Contains(name, ".xvm") && !strings.HasSuffix(name, ".ova") {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		s.origin.PutBytes("/"+name, raw)
		s.items = append(s.items, feed.Entry{ID: name, Title: name, URL: s.origin.URL() + "/" + name, Length: int64(len(raw)), Published: testTime})
		for member := range strings.Lines(string(toolOutput(t, nil, "tar", "-tPf", path))) {
			if member = strings.TrimSuffix(member, "\n"); !strings.HasSuffix(member, "/") {
				members[name] = append(members[name], member)
			}
		}
	}
	if len(members) != 12 {
		t.Fatalf("%d golden archives", len(members))
	}
	s.publish(s.items...)
	h := s.open()
	for _, r := range h.Snapshot().Releases() {
		p, err := r.Package(t.Context())
		if err != nil {
			t.Errorf("%s: %v", r.Item().ID, err)
			continue
		}
		left := make(map[string]bool)
		for _, f := range p.All() {
			left[f.Name()] = f.Name() != "disk.img" || f.Status().Image
		}
		same := func(name string, want []byte) {
			if !left[name] {
				t.Errorf("%s/%s is not shown", r.Item().ID, name)
				return
			}
			delete(left, name)
			if got := h.read(r.Name(), name); !bytes.Equal(got, want) {
				t.Errorf("%s/%s: %d bytes are not the %d that tar extracts", r.Item().ID, name, len(got), len(want))
			}
		}
		for _, member := range members[r.Item().ID] {
			content := toolOutput(t, nil, "tar", "-xPOf", filepath.Join("testdata", "golden", r.Item().ID), "--", member)
			name := strings.TrimPrefix(strings.TrimPrefix(member, "."), "/")
			if root := p.Index().Root; root != "" {
				name = strings.TrimPrefix(name, root+"/")
			}
			same(name, content)
			if plain, ok := strings.CutSuffix(name, ".gz"); ok {
				same(plain, toolOutput(t, content, "gzip", "-dc"))
			}
		}
		for name, member := range left {
			if member {
				t.Errorf("%s/%s is not in the archive", r.Item().ID, name)
			}
		}
	}
}

// toolOutput returns what a program prints.
func toolOutput(t *testing.T, stdin []byte, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(stdin), t.Output()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %q: %v", name, args, err)
	}
	return out
}
