package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// feedLabel finds the label feed; what is left has no empty braces.
var feedLabel = regexp.MustCompile(`\{feed="[^"]*"\}|,feed="[^"]*"|feed="[^"]*",`)

// scrape fetches the metrics, by name and labels.
func scrape(t *testing.T, network, address string) map[string]string {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial(network, address) },
	}}
	resp, err := client.Get("http://localhost/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s, %v", resp.Status, err)
	}
	if problems, err := promlint.New(bytes.NewReader(raw)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	values := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok && !strings.HasPrefix(line, "#") {
			// Each of ours tells whose it is; the rest need not care.
			ours := strings.HasPrefix(name, "vmcastfs_")
			if whose := `feed="/`; ours != strings.Contains(name, whose) {
				t.Errorf("the label feed of %s", name)
			}
			values[feedLabel.ReplaceAllString(name, "")] = value
		}
	}
	return values
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	socket := filepath.Join(t.TempDir(), "metrics")
	w.mount("metrics=unix:"+socket, "complete=off")
	if info, err := os.Stat(socket); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	readAll(t, w.path("latest", "disk.img"))
	_, _ = os.Stat(w.path("latest", "none"))
	got := scrape(t, "unix", socket)
	for name, want := range map[string]string{
		`vmcastfs_build_info{version="[^"]*"}`:                              "1",
		`vmcastfs_feed_last_success_timestamp_seconds`:                      `[0-9.e+]{9,}`,
		`vmcastfs_feed_refresh_failures_total{reason="network"}`:            "0",
		`vmcastfs_feed_refresh_failures_total{reason="invalid"}`:            "0",
		`vmcastfs_release_state{state="(indexed|listed)"}`:                  "[12]",
		`vmcastfs_image_state{state="corrupt"}`:                             "0",
		`vmcastfs_upstream_requests_total{code="206"}`:                      "[1-9][0-9]*",
		`vmcastfs_upstream_bytes_total{kind="demand"}`:                      "[1-9].*",
		`vmcastfs_upstream_bytes_total{kind="prefetch"}`:                    ".*",
		`vmcastfs_upstream_request_duration_seconds_count`:                  "[1-9].*",
		`vmcastfs_cache_bytes`:                                              "[1-9].*",
		`vmcastfs_cache_limit_bytes`:                                        "[1-9].*",
		`vmcastfs_cache_hits_total`:                                         ".*",
		`vmcastfs_cache_misses_total`:                                       "[1-9].*",
		`vmcastfs_read_duration_seconds_count{result="miss"}`:               "[1-9].*",
		`vmcastfs_read_duration_seconds_count{result="prefetch_hit"}`:       "[1-9].*",
		`vmcastfs_read_duration_seconds_bucket{result="hit",le="0.001024"}`: ".*",
		`vmcastfs_cache_evictions_total`:                                    "0",
		`vmcastfs_cache_corrupt_blocks_total`:                               "0",
		`vmcastfs_fuse_requests_total{op="read"}`:                           "[1-9].*",
		`vmcastfs_fuse_requests_total{op="lookup"}`:                         "[1-9].*",
		`vmcastfs_fuse_requests_total{op="statfs"}`:                         "[0-9]+",
		`vmcastfs_fuse_absent_total{op="lookup"}`:                           "[1-9].*",
		`vmcastfs_fuse_errors_total{op="lookup"}`:                           "0",
		`vmcastfs_fuse_read_duration_seconds_bucket{le="\+Inf"}`:            "[1-9].*",
		`vmcastfs_verify_failures_total{kind="image"}`:                      "0",
		`vmcastfs_stalled_reads`:                                            "0",
		`process_open_fds`:                                                  ".*",
	} {
		found := false
		for name2, value := range got {
			if regexp.MustCompile(`^` + strings.NewReplacer("{", `\{`, "}", `\}`).Replace(name) + `$`).MatchString(name2) {
				found = found || regexp.MustCompile(`^(`+want+`)$`).MatchString(value)
			}
		}
		if !found {
			t.Errorf("no metric %s of value %s", name, want)
		}
	}
	for name := range got {
		if strings.Contains(name, "://") || strings.Contains(name, "demo-1") || strings.Contains(name, "disk.img") {
			t.Errorf("a label names an address, a release or a file: %s", name)
		}
	}
	// The socket of one mount is not taken by another ...
	other := newWorld(t, appliance.Options{})
	if out, err := other.run("mount", "-o", other.options("metrics=unix:"+socket), other.feed, other.dir); exitCode(err) != 2 || !strings.Contains(out, "a socket of its own") {
		t.Errorf("a second mount on one socket: %v, %s", err, out)
	}
	if out, err := w.run("mount", "-o", w.options("metrics=0.0.0.0:9100"), w.feed, w.dir); exitCode(err) != 1 || !strings.Contains(out, "loopback") {
		t.Errorf("metrics for everybody: %v, %s", err, out)
	}
	w.umount()
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket stays after the mount")
	}
	// ... but what a killed one left is replaced.
	if l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket}); err == nil {
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	w.mount("metrics=unix:" + socket)
	scrape(t, "unix", socket)
}

func TestMetricsOnLoopback(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	address := "127.0.0.1:" + freePort(t)
	w.mount("metrics=" + address)
	if got := scrape(t, "tcp", address); got["vmcastfs_feed_stale"] != "0" {
		t.Errorf("feed_stale is %q", got["vmcastfs_feed_stale"])
	}
	w.origin.Inject(origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 500})
	w.refreshQuietly()
	testkit.Eventually(t, "the failure is counted", time.Minute, func() bool {
		got := scrape(t, "tcp", address)
		return got["vmcastfs_feed_stale"] == "1" && got[`vmcastfs_feed_refresh_failures_total{reason="status"}`] != "0" && got[`vmcastfs_upstream_requests_total{code="500"}`] != ""
	})
}

// refreshQuietly asks for a look at the feed and waits for nothing.
func (w *world) refreshQuietly() {
	w.t.Helper()
	for _, pid := range w.daemons() {
		if p, err := os.FindProcess(pid); err == nil {
			_ = p.Signal(syscall.SIGHUP)
		}
	}
}

// logged mounts with a log file, and returns a function that reads it.
func (w *world) logged(more ...string) func() string {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "log")
	w.mount(append(more, "log="+path)...)
	return func() string {
		raw, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		return string(raw)
	}
}
