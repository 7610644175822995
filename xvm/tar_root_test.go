package xvm

import (
	"archive/tar"
	"slices"
	"strings"
	"testing"
)

// A directory that holds all of a package is its root, and no other is.
func TestPackageDirectory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		files string
		root  string
		names string
	}{
		{"at the root", "xvm.xml d/a", "", "xvm.xml d/a"},
		{"in a directory", "d/xvm.xml d/a d/i/b", "d", "xvm.xml a i/b"},
		{"tar of ./d", "./d/a ./d/manifest.txt", "d", "a manifest.txt"},
		{"leading slash", "/d/a /d/description.xml", "d", "a description.xml"},
		{"deeper", "srv/vm/d/a srv/vm/d/xvm.xml", "srv/vm/d", "a xvm.xml"},
		{"OVF", "d/a.ovf d/a.vmdk", "d", "a.ovf a.vmdk"},
		{"sums of an OVF", "d/a.vmdk d/a.mf", "d", "a.vmdk a.mf"},
		{"XVA", "d/ova.xml d/Ref:4/00000000", "d", "ova.xml Ref:4/00000000"},
		{"the description alone", "d/xvm.xml", "d", "xvm.xml"},
		{"only the deepest that holds all", "a/b/xvm.xml a/b/c/xvm.xml", "a/b", "xvm.xml c/xvm.xml"},
		{"nothing describes", "d/a d/b", "", "d/a d/b"},
		{"described deeper", "d/a d/e/xvm.xml", "", "d/a d/e/xvm.xml"},
		{"described above", "d/xvm.xml e/f", "", "d/xvm.xml e/f"},
		{"two directories", "d/xvm.xml e/xvm.xml", "", "d/xvm.xml e/xvm.xml"},
		{"a prefix that is no directory", "d/xvm.xml da/a", "", "d/xvm.xml da/a"},
		{"directories that differ in case", "d/xvm.xml D/a", "", "d/xvm.xml D/a"},
		{"something outside, behind", "d/xvm.xml d/a z", "", "d/xvm.xml d/a z"},
		{"something outside, in front", "z d/xvm.xml d/a", "", "z d/xvm.xml d/a"},
		{"what is hidden does not count", "-z d/xvm.xml d/../manifest.txt ../x", "d", "xvm.xml"},
		{"a drive letter would appear", "d/c:/a d/xvm.xml", "", "d/c:/a d/xvm.xml"},
		{"no way out", "d/xvm.xml d/a/../../../b", "d", "xvm.xml"},
		{"the same name inside", "d/d/a d/xvm.xml", "d", "d/a xvm.xml"},
	} {
		var files []string
		for name := range strings.FieldsSeq(c.files) {
			files = append(files, name, "content")
		}
		x, err := tarWalkBytes(t, tarGo(t, tar.FormatPAX, files...), Limits{})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var names []string
		for _, m := range x.Members {
			names = append(names, m.Name)
		}
		if x.Root != c.root || !slices.Equal(names, strings.Fields(c.names)) {
			t.Errorf("%s: root %q, names %q", c.what, x.Root, names)
		}
		if err := x.Validate(); err != nil {
			t.Errorf("%s: %v", c.what, err)
		}
	}
}

// Hard links go on to name what they are links to; an index made before
// directories were entered is made anew.
func TestPackageDirectoryIndex(t *testing.T) {
	t.Parallel()
	x := &Index{Version: indexVersion, Size: 4096, Members: []Member{
		{Name: "d/xvm.xml", Offset: 512, Stored: 5, Size: 5},
		{Name: "d/again.xml", Offset: 512, Stored: 5, Size: 5, Link: "d/xvm.xml"},
	}}
	if x.Validate() == nil {
		t.Error("the old index is good")
	}
	x.enter()
	if err := x.Validate(); err != nil || x.Members[1].Link != "xvm.xml" {
		t.Errorf("%+v: %v", x.Members, err)
	}
}
