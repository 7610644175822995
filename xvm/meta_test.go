package xvm

import "testing"

func TestIsMeta(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		member Member
		want   bool
	}{
		{Member{Name: "xvm.xml", Size: MaxMeta}, true},
		{Member{Name: "xvm.xml", Size: MaxMeta + 1}, false},
		{Member{Name: "dir/Machine.OVF"}, true},
		{Member{Name: "xvm.xml", Segments: []Segment{{Len: 1}}}, false},
		{Member{Name: "xml"}, false},
		{Member{Name: "disk.img"}, false},
	} {
		if got := tc.member.IsMeta(); got != tc.want {
			t.Errorf("%+v: %v", tc.member, got)
		}
	}
}

func TestManifestMember(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names []string
		want  string
	}{
		{nil, ""},
		{[]string{"disk.img", "dir/a.mf", "dir/manifest.txt"}, ""},
		{[]string{"b.mf", "a.mf"}, "b.mf"},
		{[]string{"a.mf", "manifest.txt"}, "manifest.txt"},
	} {
		x := &Index{}
		for _, name := range tc.names {
			x.Members = append(x.Members, Member{Name: name})
		}
		got := ""
		if m := x.Manifest(); m != nil {
			got = m.Name
		}
		if got != tc.want {
			t.Errorf("%q: %q, want %q", tc.names, got, tc.want)
		}
	}
}
