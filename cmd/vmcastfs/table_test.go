package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestTable: rows are aligned whatever notes stand between them, and in a
// terminal nothing that can be broken is wider than that.
func TestTable(t *testing.T) {
	var table table
	table.row("NAME", "SIZE")
	table.row("a", "1")
	table.note("")
	table.note("an " + strings.Repeat("error ", 20) + "and http://" + strings.Repeat("x", 90))
	table.row("long-name", "22")
	table.row("ünï", "")
	for _, width := range []int{0, 20, 80, 120} {
		var b strings.Builder
		if err := table.print(&b, width); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(b.String(), "\n")
		for _, want := range []string{"NAME       SIZE", "a          1", "long-name  22", "ünï"} {
			found := false
			for _, line := range lines {
				found = found || line == want
			}
			if !found {
				t.Errorf("at %d there is no line %q:\n%s", width, want, b.String())
			}
		}
		for _, line := range lines {
			if width > 0 && utf8.RuneCountInString(line) > width && strings.Contains(strings.TrimLeft(line, " "), " ") {
				t.Errorf("at %d a line is wider: %q", width, line)
			}
		}
		if n := strings.Count(b.String(), "error"); n != 20 {
			t.Errorf("at %d there are %d words of the note", width, n)
		}
		if width == 0 && len(lines) != 6 {
			t.Errorf("without a terminal a note has several lines:\n%s", b.String())
		}
	}
}

// A last cell that is too wide goes on below itself.
func TestTableLastColumn(t *testing.T) {
	var table table
	table.row("FILE", "PROVEN BY")
	table.row("root.img", strings.Repeat("a sum; ", 6)+"and another")
	table.row("x", "-")
	var b strings.Builder
	if err := table.print(&b, 40); err != nil {
		t.Fatal(err)
	}
	const want = "FILE      PROVEN BY\nroot.img  a sum; a sum; a sum; a sum; a\n          sum; a sum; and another\nx         -\n"
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}

// A name that leaves the other columns no room stands above them.
func TestTableLongName(t *testing.T) {
	var table table
	table.row("RELEASE", "STATE", "SIZE", "LEFT")
	table.row("one", "ready", "1 MiB", "-")
	table.row("  a-very-long-name-of-an-image", "partial", "10 MiB", "2m13s")
	const want = "RELEASE  STATE    SIZE    LEFT\none      ready    1 MiB   -\n" +
		"  a-very-long-name-of-an-image\n         partial  10 MiB  2m13s\n"
	if text := table.text(40); text != want {
		t.Errorf("%s", text)
	}
	if text := table.text(0); strings.Count(text, "\n") != 3 {
		t.Errorf("%s", text)
	}
}
