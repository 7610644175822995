package catalogue

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
	"testing"
)

func at(t testing.TB, address string) *url.URL {
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestFilter: what filters want, and which versions are the newest.
func TestFilter(t *testing.T) {
	sum := strings.Repeat("a", 64)
	var doc strings.Builder
	for _, name := range []string{"a-amd64-20240901", "a-amd64-20241001", "a-amd64-20231001", "b-arm64-9", "b-aarch64-10"} {
		fmt.Fprintf(&doc, "%s  %s.qcow2\n", sum, name)
	}
	for only, want := range map[string]string{
		"":                                 "a-amd64-20231001 a-amd64-20240901 a-amd64-20241001 b-aarch64-10 b-arm64-9",
		"arch=amd64,newest=1":              "a-amd64-20241001",
		"arch=x86_64,version=20240901":     "a-amd64-20240901",
		"arch=arm64":                       "b-aarch64-10 b-arm64-9",
		"name=A-*,newest=2":                "a-amd64-20240901 a-amd64-20241001",
		"file=b-*.qcow2,kind=qcow2":        "b-aarch64-10 b-arm64-9",
		"product=a-amd64,version=2023100?": "a-amd64-20231001",
		"os=x":                             "",
		"arch=x86*":                        "",
		"arch=aarch*":                      "b-aarch64-10",
	} {
		f, err := ParseFilter(only)
		if err != nil {
			t.Fatal(err)
		}
		items, err := Sums([]byte(doc.String()), at(t, "https://h.example/x/SHA256SUMS"), f)
		if err == nil {
			items, err = f.Select(items)
		}
		var names []string
		for _, want := range strings.Fields(want) {
			for _, it := range items {
				if it.Name == want {
					names = append(names, it.Name)
				}
			}
		}
		if err != nil || strings.Join(names, " ") != want || len(items) != len(names) {
			t.Errorf("%q: %v, %+v", only, err, items)
		}
	}
	for _, only := range []string{"x", "x=1", "arch=", "newest=0", "newest=x", "arch=[", "=a"} {
		if _, err := ParseFilter(only); err == nil {
			t.Errorf("%q is taken", only)
		}
	}
}

// TestS15SumsRefused: what is wrong with a file of sums refuses it.
func TestS15SumsRefused(t *testing.T) {
	a, b := strings.Repeat("a", 64), strings.Repeat("b", 64)
	for text, reason := range map[string]string{
		a + "  ../a.img\n":                       "leads out",
		a + "  /a.img\n":                         "leads elsewhere",
		a + "  https://h/a.img\n":                "leads elsewhere",
		a + "  javascript:x.img\n":               "leads elsewhere",
		a + "  a\x1b[2Jb.img\n":                  "no path",
		a[:60] + "  a.img\n":                     "is none of 64",
		a + a + "  a.img\n":                      "is none of 64",
		a + "  a.img\n" + b + "  a.img\n":        "two different sums",
		a + "  a.img\n" + a + "  d/../a.img\n":   "leads out",
		"MD5 (a.img) = " + a[:32] + "\n":         "no sum that proves it",
		"SHA9 (a.img) = " + a + "\n":             "not known",
		"# a.img: -3 bytes\n" + a + "  a.img\n":  "no size",
		"# a.img: 3 bytes\n# a.img: 4 bytes\n":   "two sizes",
		"<!DOCTYPE html>\n":                      "HTML",
		"hello world, this is no file of sums":   "no sum",
		a + "  a.img\n\x00":                      "no text",
		strings.Repeat("x", 5000) + "  a.img\n":  "has 5008 bytes",
		strings.Repeat("#\n", maxItems+1):        "more than",
		a + "  a.img\n" + a + "  sub/a.img\n":    "",
		a + "  readme\n":                         "",
		"SHA256 (a.img) = " + strings.ToUpper(a): "",
	} {
		items, err := Sums([]byte(text), at(t, "https://h.example/x/SHA256SUMS"), Filter{})
		if reason == "" && err != nil || reason != "" && (!errors.Is(err, ErrCatalogue) || !strings.Contains(err.Error(), reason)) {
			t.Errorf("%.60q: %v, want %q; %v", text, err, reason, items)
		}
	}
}

// TestSelectRefuses: two images of one name, or two truths about one file.
func TestSelectRefuses(t *testing.T) {
	one := Item{Name: "a", URL: at(t, "https://h.example/a.img"), Size: -1, Sums: []Sum{{"sha256", "1"}}}
	same, other, twice := one, one, one
	same.Name, other.Name, other.Sums = "b", "c", []Sum{{"sha256", "2"}}
	twice.URL = at(t, "https://h.example/d.img")
	if items, err := (Filter{}).Select([]Item{one, same}); err != nil || len(items) != 1 {
		t.Error(items, err)
	}
	for _, bad := range []Item{other, twice} {
		if _, err := (Filter{}).Select([]Item{one, bad}); !errors.Is(err, ErrCatalogue) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// check fails if an item is not below the catalogue, or is not fit for a feed.
func check(t *testing.T, root *url.URL, items []Item, err error) {
	if err != nil && !errors.Is(err, ErrCatalogue) {
		t.Fatal(err)
	}
	for _, it := range items {
		if it.URL.Host != root.Host || it.URL.Scheme != root.Scheme || !strings.HasPrefix(it.URL.Path, root.Path) || path.Clean(it.URL.Path) != it.URL.Path {
			t.Fatalf("%s is not below %s", it.URL, root)
		}
		if len(it.Sums) == 0 || it.Size == 0 || it.Size < -1 {
			t.Fatalf("%+v", it)
		}
		if back, err := url.Parse(it.URL.String()); err != nil || back.Path != it.URL.Path {
			t.Fatalf("%q: %v", it.URL, err)
		}
	}
	_, _ = Filter{newest: 2}.Select(items)
}

func FuzzProducts(f *testing.F) {
	f.Add([]byte(`{"format":"products:1.0","products":{"com.x:s:1:amd64":{"arch":"amd64","os":"x","versions":{"20240101":{"items":{"disk1.img":{"ftype":"disk1.img","path":"a/b.img","size":12,"sha256":"` + strings.Repeat("a", 64) + `"}}}}}}}`))
	f.Add([]byte(`{"format":"index:1.0","index":{"x":{"datatype":"image-downloads","path":"streams/v1/x.json"}}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		root := at(t, "https://h.example/c/")
		items, err := Products(nil, doc, root, "", Filter{})
		check(t, root, items, err)
		lists, err := Index(doc, root)
		for _, l := range lists {
			check(t, root, []Item{{URL: l.URL, Size: 1, Sums: []Sum{{}}}}, err)
		}
		_, _ = IsIndex(doc)
	})
}

func FuzzSums(f *testing.F) {
	sum := strings.Repeat("a", 64)
	f.Add([]byte(sum+"  a.img\n"), "SHA256SUMS")
	f.Add([]byte("# a.qcow2: 5 bytes\nSHA256 (a.qcow2) = "+sum+"\n"), "X-CHECKSUM")
	f.Add([]byte(sum+"\n"), "a.img.sha256")
	f.Fuzz(func(t *testing.T, doc []byte, name string) {
		root := at(t, "https://h.example/c/20240101/")
		u := *root
		u.Path += strings.ReplaceAll(name, "/", "")
		items, err := Sums(doc, &u, Filter{})
		check(t, root, items, err)
	})
}
