package remote

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
)

// run starts a server program on a free loopback port and returns its URL once it
// answers. Where the program is missing the test is skipped, in CI it fails.
func run(t *testing.T, program string, args func(port string) []string) string {
	t.Helper()
	binary, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not installed", program)
		}
		t.Skipf("%s is not installed", program)
	}
	address, kept, err := origin.KeepPort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { kept.Close() })
	_, port, _ := net.SplitHostPort(address)
	var output bytes.Buffer
	cmd := exec.Command(binary, args(port)...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cmd.Process.Signal(os.Interrupt)
		select {
		case <-ended:
		case <-time.After(2 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
	})
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("tcp", "127.0.0.1:"+port); err == nil {
			conn.Close()
			return "http://127.0.0.1:" + port
		}
		select {
		case <-ended:
			t.Fatalf("%s ended: %s", program, output.String())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer", program)
		}
	}
}

func TestNginx(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	os.Mkdir(root, 0o755)
	config := filepath.Join(dir, "nginx.conf")
	url := run(t, "nginx", func(port string) []string {
		text := fmt.Sprintf(`daemon off; master_process off; worker_processes 1; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 64; }
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	gzip on; gzip_types text/xml; gzip_min_length 10;
	types { text/xml xml; application/x-tar xvm; }
	limit_req_zone $server_port zone=few:1m rate=10r/s;
	server {
		listen 127.0.0.1:%[2]s; root %[1]s/root;
		location /moved/ { return 302 /; }
		location /few/ { limit_req zone=few; limit_req_status 429; alias %[1]s/root/; }
		location = /moved/f.xvm { return 302 /f.xvm; }
	}
}`, dir, port)
		if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return []string{"-p", dir, "-c", config, "-e", filepath.Join(dir, "error.log")}
	})
	want := content(testSize)
	put := func(b []byte, when time.Time) {
		name := filepath.Join(root, "f.xvm")
		if err := os.WriteFile(name+".new", b, 0o644); err != nil {
			t.Fatal(err)
		}
		os.Chtimes(name+".new", when, when)
		os.Rename(name+".new", name)
	}
	put(want, time.Now().Add(-time.Hour))
	os.WriteFile(filepath.Join(root, "feed.xml"), bytes.Repeat([]byte("<rss/>\n"), 1000), 0o644)

	c := client(t, func(o *Options) { o.StallTimeout = 5 * time.Second })
	o := open(t, c, url+"/moved/f.xvm")
	if id := o.Identity(); id.Size != testSize || !id.Ranged || id.ETag == "" || !id.DateStrong {
		t.Errorf("identity %+v", id)
	}
	var wg sync.WaitGroup
	for i := range int64(6) {
		wg.Go(func() {
			r, err := o.Fetch(t.Context(), i*40_000, 50_000, source.Urgency(i%3))
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want[i*40_000:i*40_000+50_000]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	wg.Wait()
	d, err := c.Get(t.Context(), url+"/feed.xml", "", "", 10_000)
	if err != nil || len(d.Body) != 7000 || !strings.HasPrefix(d.ETag, `W/"`) {
		t.Errorf("gzip feed: %v", err)
	} else if d, err := c.Get(t.Context(), url+"/feed.xml", d.ETag, d.LastModified, 10_000); err != nil || !d.NotModified {
		t.Errorf("unchanged feed: %+v, %v", d, err)
	}
	// A limit of ten requests a second, which nginx keeps to without any burst.
	few := open(t, client(t, func(o *Options) { o.Hard, o.StallTimeout, o.RetryMin, o.RetryMax = true, time.Minute, 0, 0 }), url+"/few/f.xvm")
	begun := time.Now()
	for i := range int64(30) {
		wg.Go(func() { mustFetch(t, few, want, i*1000, 1000) })
	}
	wg.Wait()
	// How many are refused on the way to that pace: TestPace. A busy machine takes longer, and has
	// requests arrive together.
	if n, seconds := few.client.Stats()[0].Answers[429], time.Since(begun).Seconds(); float64(30+n) > 20+2*10*seconds {
		t.Errorf("%d requests were refused for 30 good ones in %.1f s", n, seconds)
	}
	put(append(want[:0:0], want...), time.Now().Add(-time.Minute)) // the same bytes, but who knows
	if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrChanged) {
		t.Errorf("replaced: %v", err)
	}
	if _, err := c.Open(t.Context(), url+"/none", ""); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	put(nil, time.Now().Add(-time.Minute))
	if o, err := c.Open(t.Context(), url+"/f.xvm", ""); err != nil || o.Identity().Size != 0 {
		t.Errorf("empty: %v", err)
	}
}

// A server that knows nothing of ranges.
func TestPythonHTTPServer(t *testing.T) {
	root := t.TempDir()
	url := run(t, "python3", func(port string) []string {
		return []string{"-m", "http.server", "--bind", "127.0.0.1", "--directory", root, port}
	})
	want := content(testSize)
	if err := os.WriteFile(filepath.Join(root, "f.xvm"), want, 0o644); err != nil {
		t.Fatal(err)
	}
	c := client(t, func(o *Options) { o.StallTimeout = 5 * time.Second })
	o := open(t, c, url+"/f.xvm")
	if id := o.Identity(); id.Ranged || id.Size != testSize || id.LastModified == "" {
		t.Errorf("identity %+v", id)
	}
	r, err := o.OneStream().Fetch(t.Context(), 0, unknown, source.Background)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	mustFetch(t, o, want, 200_000, 10)
	old := time.Now().Add(-time.Hour)
	os.Chtimes(filepath.Join(root, "f.xvm"), old, old)
	if _, err := fetch(t, o, 0, 10); !errors.Is(err, ErrChanged) {
		t.Errorf("touched: %v", err)
	}
}
