package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestDashboard: every panel of the dashboard for Grafana shows something of a mount
// that Prometheus scrapes.
func TestDashboard(t *testing.T) {
	t.Parallel()
	var board struct {
		Panels []struct {
			ID          int
			Title, Type string
			Datasource  struct{ UID string }
			Targets     []struct{ Expr string }
		}
		Templating struct{ List []struct{ Name, Type string } }
	}
	if err := json.Unmarshal([]byte(distFile(t, "example.grafana.json")), &board); err != nil {
		t.Fatal(err)
	}
	prometheus := testkit.Need(t, "prometheus")
	w := newWorld(t, appliance.Options{})
	mount, listen, dir := "127.0.0.1:"+freePort(t), "127.0.0.1:"+freePort(t), t.TempDir()
	w.mount("http=" + mount)
	config := fmt.Sprintf("global: {scrape_interval: 500ms}\nscrape_configs: [{job_name: vmcastfs, static_configs: [{targets: ['%s']}]}]\n", mount)
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+listen, "--log.level=error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	readAll(t, w.path("latest", appliance.DiskName))

	// results is how many series an expression has; an error is one of the expression.
	results := func(expr string) (n int, err error) {
		resp, err := http.Get("http://" + listen + "/api/v1/query?" + url.Values{"query": {expr}}.Encode())
		if err != nil {
			return 0, nil // it has not started yet
		}
		defer resp.Body.Close()
		var answer struct {
			Status, Error string
			Data          struct{ Result []json.RawMessage }
		}
		raw, _ := io.ReadAll(resp.Body)
		if json.Unmarshal(raw, &answer) == nil && answer.Status == "error" {
			err = fmt.Errorf("%s: %s", expr, answer.Error)
		}
		return len(answer.Data.Result), err
	}
	variables := strings.NewReplacer("$__rate_interval", "1m", "$mount", ".*")
	ids, panels := map[int]bool{}, 0
	for _, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have the number %d", p.ID)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" || p.Title == "") {
			t.Errorf("panel %d, %q", p.ID, p.Title)
		}
		for _, target := range p.Targets {
			panels++
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("a variable that there is not: %s", target.Expr)
			}
			testkit.Eventually(t, p.Title+" shows something: "+expr, 60*time.Second, func() bool {
				n, err := results(expr)
				if err != nil {
					t.Fatal(err)
				}
				return n > 0
			})
		}
	}
	if panels < 10 || len(board.Templating.List) != 2 {
		t.Errorf("%d panels", panels)
	}
}
