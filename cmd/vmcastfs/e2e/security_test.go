package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestMatrix reads the table of hostile inputs and looks for the tests it
// names, so that none can go without the table telling so.
func TestMatrix(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/hostile.txt")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ id, input, outcome, tests string }
	var rows []row
	head := regexp.MustCompile(`^([FNHTSCL]\d+)  ?\s*(.+?) \| (.+)$`)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSuffix(line, "\n")
		if m := head.FindStringSubmatch(line); m != nil {
			rows = append(rows, row{id: m[1], input: m[2], outcome: m[3]})
		} else if tests, ok := strings.CutPrefix(line, "     "); ok && len(rows) > 0 {
			rows[len(rows)-1].tests += tests
		} else if !strings.HasPrefix(line, "#") {
			t.Errorf("no row: %s", line)
		}
	}
	want := 0
	for _, group := range []struct {
		letter string
		n      int
	}{{"F", 17}, {"N", 8}, {"H", 21}, {"T", 18}, {"S", 15}, {"C", 4}, {"L", 12}} {
		for i := 1; i <= group.n; i++ {
			if id := fmt.Sprint(group.letter, i); want >= len(rows) || rows[want].id != id {
				t.Fatalf("row %d should be %s", want, id)
			}
			want++
		}
	}
	if len(rows) != want || want != 95 {
		t.Errorf("%d rows, want %d", len(rows), want)
	}

	doc := string(readAll(t, "../docs/security.md"))
	for _, r := range rows {
		if row := fmt.Sprintf("| %s %s | %s |\n", r.id, r.input, r.outcome); !strings.Contains(doc, row) {
			t.Errorf("docs/security.md lacks the row\n%s", row)
		}
	}
	if n := len(regexp.MustCompile(`(?m)^\| [FNHTSCL]\d+ `).FindAllString(doc, -1)); n != len(rows) {
		t.Errorf("docs/security.md has %d rows", n)
	}

	root := filepath.Join("..", "..", "..")
	sources := map[string][]string{} // of the tests of a package, by file
	for _, r := range rows {
		named := 0
		for part := range strings.SplitSeq(r.tests, "; ") {
			pkg, list, ok := strings.Cut(part, ": ")
			if !ok {
				t.Errorf("%s: %q names no package", r.id, part)
				continue
			}
			if sources[pkg] == nil {
				files, _ := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
				for _, file := range files {
					sources[pkg] = append(sources[pkg], string(readAll(t, file)))
				}
			}
			for name := range strings.SplitSeq(list, ", ") {
				found := false
				for _, source := range sources[pkg] {
					if !strings.Contains(source, "\nfunc "+name+"(t *testing.T)") {
						continue
					}
					found = true
					// By the name of the function, or of one of its subtests or table rows.
					inName := regexp.MustCompile(r.id + `([A-Z]|$)`).MatchString(name)
					inTable := regexp.MustCompile("[\"`]" + r.id + `[ :"]`).MatchString(source)
					if inName || inTable {
						named++
					}
				}
				if !found {
					t.Errorf("%s: there is no %s in %s", r.id, name, pkg)
				}
			}
		}
		if named == 0 {
			t.Errorf("%s: no test is named by the id", r.id)
		}
	}
}
