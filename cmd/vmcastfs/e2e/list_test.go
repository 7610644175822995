package e2e

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vmcastfs/cmd/internal/appliance"
)

// TestList runs list and list --json.
func TestList(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	out, err := exec.Command(binary, "list", "-o", w.options(), w.feed).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	rows := strings.Split(strings.TrimSpace(string(out)), "\n")
	if len(rows) != 11 { // the heading, two releases with three images each, and what to do next
		t.Fatalf("list prints\n%s", out)
	}
	for i, words := range map[int][]string{
		0:  {"RELEASE", "STATE", "DATE", "SIZE", "SIGNATURE"},
		1:  {"demo-1.1", "2026-04-01", "MiB", "ready"},
		2:  {"    data.img"},
		5:  {"demo-1.0", "2026-03-01", "MiB", "ready"},
		8:  {"    disk.img: 8.0 MiB, not fetched"},
		10: {"Next: have signatures checked: "},
	} {
		for _, word := range words {
			if !strings.Contains(rows[i], word) {
				t.Errorf("%q is not in %q", word, rows[i])
			}
		}
	}
	w.origin.ResetStats()
	out, err = exec.Command(binary, "list", "--json", "-o", w.options(), w.feed).Output()
	var list []struct {
		Name, Title, URL, State string
		Published               time.Time
		Size                    int64
		Images                  []struct {
			Name, State string
			Size        int64
		}
	}
	if err != nil || json.Unmarshal(out, &list) != nil || len(list) != 2 {
		t.Fatalf("list --json: %v\n%s", err, out)
	}
	newest := list[0]
	if newest.Name != "demo-1.1" || newest.Title != "demo 1.1" || newest.State != "indexed" || newest.Published.IsZero() ||
		newest.Size != int64(len(w.app.Packages["/demo-1.1.xvm"])) || !strings.HasSuffix(newest.URL, "/demo-1.1.xvm") {
		t.Errorf("%+v", newest)
	}
	found := false
	for _, im := range newest.Images {
		found = found || im.Name == "disk.img" && im.Size == int64(len(w.app.Disk))
	}
	if !found {
		t.Errorf("images are %+v", newest.Images)
	}
	if st := w.packageStats(); st.BytesSent > st.Requests { // the first byte of each tells whether it is the same
		t.Errorf("listing again fetched %d bytes of packages", st.BytesSent)
	}
	// The server being away does not matter to who has listed before.
	w.origin.Down()
	if out, err := exec.Command(binary, "list", "-o", w.options(), w.feed).Output(); err != nil || !strings.Contains(string(out), "demo-1.1") {
		t.Errorf("list with the server down: %v\n%s", err, out)
	}
}
