package bundle

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

func TestSidecarURLs(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct{ where, pkg, want string }{
		{"", "https://example.org/a.xvm", ""},
		{dir, "https://example.org/a.xvm?token=1", "file://" + dir + "/a.xvm.sidecar"},
		{dir + "/one.sidecar", "https://example.org/a.xvm", "file://" + dir + "/one.sidecar"},
		{"https://side.example/x/", "https://example.org/a b.xvm", "https://side.example/x/a%20b.xvm.sidecar"},
		{"https://side.example/one.sidecar", "https://example.org/a.xvm", "https://side.example/one.sidecar"},
		{dir, "https://example.org/", ""},
		{dir, "://", ""},
		{"https://[", "https://example.org/a.xvm", ""},
	} {
		if got := strings.Join(SidecarURLs(c.where, c.pkg, ""), " "); got != c.want {
			t.Errorf("%s for %s: %s, want %s", c.where, c.pkg, got, c.want)
		}
	}
	sum := strings.Repeat("0123456789abcdef", 4)
	if got := SidecarURLs("https://side.example/x", "https://example.org/a.img", sum); len(got) != 2 ||
		got[0] != "https://side.example/x/a.img.0123456789abcdef.sidecar" || got[1] != "https://side.example/x/a.img.sidecar" {
		t.Errorf("with a sum: %q", got)
	}
}

// TestParseDoc: what is no document of a version that is known is as none, and
// what the version before said of plain content is forgotten.
func TestParseDoc(t *testing.T) {
	doc := bareDoc("disk.img", 1<<20, "")
	doc.Sizes = map[string]int64{"x": 1}
	doc.Kinds = map[string]SeenImage{"x": {Format: "raw"}}
	encode := func(version int) []byte {
		d := *doc
		d.Version = version
		raw, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if d := parseDoc(encode(docVersion)); d == nil || d.Sizes["x"] != 1 || d.Index.Size != 1<<20 {
		t.Errorf("%+v", d)
	}
	if d := parseDoc(encode(docVersion - 1)); d == nil || d.Version != docVersion || d.Sizes != nil || d.Kinds != nil {
		t.Errorf("the version before: %+v", d)
	}
	for _, raw := range [][]byte{nil, []byte("{}"), []byte(`{"Version":3}`), encode(docVersion + 1), encode(1), encode(3)[:20]} {
		if d := parseDoc(raw); d != nil {
			t.Errorf("%.40q: %+v", raw, d)
		}
	}
}

// TestLearnedOnce: a size that is known already is not saved again, and what is
// saved is what had been kept with what is new.
func TestLearnedOnce(t *testing.T) {
	doc := bareDoc("disk.img", 1, "")
	doc.Sizes = map[string]int64{"a": 1}
	var saved []*Doc
	l := newLearned(doc, func(d *Doc) { saved = append(saved, d) })
	l.size("a", 1)
	l.size("b", 2)
	l.size("b", 2)
	if len(saved) != 1 || saved[0].Sizes["a"] != 1 || saved[0].Sizes["b"] != 2 || len(doc.Sizes) != 1 {
		t.Errorf("%d documents, %+v; the first is %+v", len(saved), saved, doc.Sizes)
	}
}

// TestSmall: a file in memory is as good as its sums, or as the signature over it.
func TestSmall(t *testing.T) {
	m, err := xvm.ParseManifest("manifest.txt", []byte("da39a3ee5e6b4b0d3255bfef95601890afd80709  empty.txt\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, content string
		sums          *xvm.Manifest
		by, want      string
	}{
		{"empty.txt", "", m, "", "verified"},
		{"empty.txt", "x", m, "", "corrupt"},
		{"empty.txt", "x", m, xvm.ByPublisher, "corrupt"},
		{"other.txt", "x", m, "", "unverified"},
		{"other.txt", "x", nil, "", "unverified"},
		{"other.txt", "x", m, xvm.ByPublisher, "verified"},
		{"other.txt", "x", m, xvm.BySidecar, "verified"},
	} {
		s := newSmall("one/"+c.name, c.name, []byte(c.content), c.sums)
		st := s.Status()
		s.signed(&st, xvm.Standing{By: c.by})
		if st.State != c.want || st.Note == "" {
			t.Errorf("%+v: %s, %s", c, st.State, st.Note)
		}
		if _, err := s.Open(t.Context()); (err != nil) != (c.want == "corrupt") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestIdentity: the keys of files differ in each of their parts, however those are
// cut.
func TestIdentity(t *testing.T) {
	id := identity{"a", "b"}
	seen := map[string]bool{}
	for _, k := range []string{
		string(id.key("c")), string(id.key("c", "")), string(id.key("", "c")), string(identity{"ab"}.key("c")),
		string(archive.Key("a", "bc")), string(identity{"a"}.key("bc", "")),
	} {
		if seen[k] {
			t.Error("two files have one key")
		}
		seen[k] = true
	}
}

// TestForgotten: what a generation learns after another has taken its place is not
// kept in the place of that.
func TestForgotten(t *testing.T) {
	st, err := store.Open(store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	log := slog.New(slog.DiscardHandler)
	old, next := NewRecord(st, "id", "key", log), NewRecord(st, "id", "key", log)
	old.save(bareDoc("old.img", 1, ""))
	old.Forget()
	if next.load() != nil {
		t.Error("the old document is there")
	}
	old.save(bareDoc("old.img", 1, ""))
	if next.load() != nil {
		t.Error("the old document is there again")
	}
	next.save(bareDoc("next.img", 1, ""))
	old.save(bareDoc("old.img", 1, ""))
	if d := next.load(); d == nil || d.Index.Members[0].Name != "next.img" {
		t.Errorf("%+v", d)
	}
}

// TestWholeFirst: what is small, or no disk image, is checked whole before it is
// served.
func TestWholeFirst(t *testing.T) {
	d := xvm.Description{Kernel: "vmlinuz", Ramdisk: "initrd.img", Drives: []xvm.Drive{{File: "root.1"}, {File: "data.2"}}}
	for name, want := range map[string]bool{
		"vmlinuz": true, "initrd.img": true, "vmlinuz-6.1.0": true, "tools.zip": true, "docs.tar.gz": true,
		"root.1": false, "data.2.gz": false, "imagefile2": false, "imagefile.gz": false, "disk.img": false, "disk.qcow2.xz": false, "a/b.VMDK": false,
	} {
		if got := wholeFirst(name, maxWholeFirst+1, d); got != want {
			t.Errorf("a large %s: %v", name, got)
		}
		if !wholeFirst(name, maxWholeFirst, d) {
			t.Errorf("a small %s is not", name)
		}
	}
}
