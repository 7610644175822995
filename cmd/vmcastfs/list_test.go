package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestListOfMany: a list of very many releases looks at no more of them than a screen is
// worth, fills it, and tells how many there are beside.
func TestListOfMany(t *testing.T) {
	for _, tc := range []struct{ height, all, looked int }{
		{0, 10_000, 10_000}, {24, 10_000, 128}, {24, 100, 100}, {200, 10_000, 200}, {200, 150, 150},
	} {
		if got := (screen{height: tc.height}).looked(tc.all); got != tc.looked {
			t.Errorf("%d of %d releases are looked at for %d lines", got, tc.all, tc.height)
		}
	}
	rows := make([]listed, 128)
	for i := range rows {
		rows[i] = listed{Name: fmt.Sprintf("debian-%d", 1000-i), State: "indexed"}
	}
	for _, tc := range []struct {
		rows, height, rest int
		more               string
	}{
		{128, 24, 872, "… 981 releases more; list -n 0 shows them\n"},
		{3, 24, 0, ""},
		{128, 200, 872, "… 872 releases more; list -n 0 shows them\n"},
	} {
		var text strings.Builder
		if err := printList(&text, screen{width: 80, height: tc.height}, rows[:tc.rows], tc.rest, "mount it"); err != nil {
			t.Fatal(err)
		}
		if lines := strings.Count(text.String(), "\n"); lines >= tc.height || !strings.Contains(text.String(), tc.more) || tc.more == "" && strings.Contains(text.String(), " more") {
			t.Errorf("%+v: %d lines\n%s", tc, lines, text.String())
		}
	}
}
