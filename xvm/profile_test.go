package xvm

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParseProfile(t *testing.T) {
	t.Parallel()
	const head = "vmcast-profile 1\n"
	for doc, want := range map[string][]ProfileRead{
		head:                                     {},
		"vmcast-profile 1\r\nroot.img 0 512\r\n": {{"root.img", 0, 512}},
		head + "my disk 4 096 1\n":               {{"my disk 4", 96, 1}},
		head + "a 0 512\nb 65536 4096\na 0 512\n": {{"a", 0, 512}, {"b", 65536, 4096}, {"a", 0, 512}},
		"":                               nil,
		"vmcast-profile 2\n":             nil,
		head + "a 0 512":                 nil,
		head + "a 0 0\n":                 nil,
		head + "a 0 -1\n":                nil,
		head + "a 0\n":                   nil,
		head + " 0 1\n":                  nil,
		head + "\n":                      nil,
		head + "../a 0 1\n":              nil,
		head + "./a 0 1\n":               nil,
		head + "a 1 72057594037927936\n": nil,
		head + strings.Repeat("a 0 1\n", MaxProfileReads+1): nil,
	} {
		got, err := ParseProfile([]byte(doc))
		if want == nil {
			if !errors.Is(err, ErrProfile) {
				t.Errorf("%.60q: %v", doc, err)
			}
			continue
		}
		if err != nil || len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
			t.Errorf("%q gives %v, %v", doc, got, err)
		}
	}
}

func FuzzParseProfile(f *testing.F) {
	f.Add([]byte("vmcast-profile 1\nroot.img 0 512\nroot img 65536 4096\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		reads, err := ParseProfile(b)
		if err != nil {
			return
		}
		doc, err := AppendProfile(nil, reads)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseProfile(doc); err != nil || len(reads) > 0 && !reflect.DeepEqual(again, reads) {
			t.Errorf("%v became %v, %v", reads, again, err)
		}
	})
}
