package mirrorconfig_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/mirrorconfig"
	"vmcastfs/cmd/internal/rackcache"
)

// options are of a configuration that is printed.
func options() mirrorconfig.Options {
	return mirrorconfig.Options{Origins: []string{"https://example.org"}, Listen: "8080", Size: 200 << 30, CACert: "/etc/ssl/certs/ca-certificates.crt", Build: "1"}
}

// Nothing that a configuration could take for its own gets into one.
func TestRefused(t *testing.T) {
	for name, change := range map[string]func(*mirrorconfig.Options){
		"no origin":    func(o *mirrorconfig.Options) { o.Origins = nil },
		"a path":       func(o *mirrorconfig.Options) { o.Origins = []string{"https://example.org/vm"} },
		"a semicolon":  func(o *mirrorconfig.Options) { o.Origins = []string{"https://e.org;x"} },
		"a brace":      func(o *mirrorconfig.Options) { o.Origins = []string{"https://e}org"} },
		"a variable":   func(o *mirrorconfig.Options) { o.Origins = []string{"https://$host"} },
		"a user":       func(o *mirrorconfig.Options) { o.Origins = []string{"https://u:p@e.org"} },
		"no scheme":    func(o *mirrorconfig.Options) { o.Origins = []string{"e.org"} },
		"a parent":     func(o *mirrorconfig.Options) { o.Parent = "site:8080" },
		"listen":       func(o *mirrorconfig.Options) { o.Listen = "8080; x" },
		"port 0":       func(o *mirrorconfig.Options) { o.Listen = "0" },
		"network":      func(o *mirrorconfig.Options) { o.Allow = []string{"all"} },
		"directory":    func(o *mirrorconfig.Options) { o.Dir = "/var/a;b" },
		"relative":     func(o *mirrorconfig.Options) { o.Dir = "cache" },
		"newline":      func(o *mirrorconfig.Options) { o.CACert = "/a\n/b" },
		"TLS, address": func(o *mirrorconfig.Options) { o.Origins = []string{"https://10.0.0.1"} },
		"too small":    func(o *mirrorconfig.Options) { o.Size = 1 },
	} {
		o := options()
		change(&o)
		for _, write := range []func(mirrorconfig.Options) (string, error){mirrorconfig.Nginx, mirrorconfig.TrafficServer} {
			if text, err := write(o); err == nil {
				t.Errorf("%s: %s", name, text)
			}
		}
	}
	for _, write := range []func(mirrorconfig.Options) (string, error){mirrorconfig.Nginx, mirrorconfig.TrafficServer} {
		text, err := write(options())
		if err != nil || strings.Contains(text, "<no value>") {
			t.Error(err, text)
		}
		for line := range strings.Lines(text) {
			if len(line) > 81 && strings.HasPrefix(line, "#") {
				t.Errorf("%d columns: %s", len(line), line)
			}
		}
	}
}

// program is vmcastfs itself.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vmcastfs-mirror-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vmcastfs")
	return path, testkit.Build(path, "vmcastfs/cmd/vmcastfs")
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func start(t *testing.T, kind string, flags []string, origins ...string) *rackcache.Cache {
	t.Helper()
	if _, err := rackcache.Find(kind); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "vmcastfs-rack-") // where another user may look
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c, err := rackcache.Start(context.Background(), binary, kind, dir, "127.0.0.1", flags, origins...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	t.Cleanup(func() {
		if t.Failed() {
			text, _ := exec.Command("sh", "-c", "cat "+dir+"/log/*.log | tail -n 20").Output()
			t.Logf("%s", text)
		}
	})
	return c
}

// ask sends one request, and returns the status, the ETag and the body.
func ask(t *testing.T, url, span, ifRange string) (int, string, []byte) {
	t.Helper()
	req, _ := http.NewRequest(http.MethodGet, url, nil)
	req.Header = http.Header{"Authorization": {"Bearer secret"}, "Cookie": {"a=b"}, "X-Key": {"k"}}
	if span != "" {
		req.Header.Set("Range", "bytes="+span)
	}
	if ifRange != "" {
		req.Header.Set("If-Range", ifRange)
	}
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		t.Error(err)
		return 0, "", nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, resp.Header.Get("ETag"), body
}

// The configurations as they are printed, run by what Debian ships: each piece is fetched once,
// however many ask at once; a version has keys of its own; what is not listed is refused; no
// login goes on; and while the origin is down, what is here is served.
func TestCaches(t *testing.T) {
	for kind := range rackcache.Programs {
		for _, secure := range []bool{false, true} {
			if secure && kind == "trafficserver" {
				continue // it asks a name server even for localhost
			}
			t.Run(kind+map[bool]string{true: " over TLS"}[secure], func(t *testing.T) {
				t.Parallel()
				s := origin.New()
				content := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
				put := func(etag string) {
					s.Put("/d/a b.xvm", bytes.NewReader(content), int64(len(content)), time.Now().Add(-time.Hour), etag, "application/x-tar")
				}
				put(`"one"`)
				flags, begin := []string{"--allow", "127.0.0.1/32"}, s.Start
				if secure {
					begin = s.StartTLS
				}
				if err := begin(); err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				if secure {
					ca := filepath.Join(t.TempDir(), "ca.pem")
					if err := os.WriteFile(ca, s.CertPEM(), 0o644); err != nil {
						t.Fatal(err)
					}
					for dir := filepath.Dir(ca); dir != os.TempDir(); dir = filepath.Dir(dir) {
						os.Chmod(dir, 0o755)
					}
					flags = append(flags, "--cacert", ca)
				}
				s.SetLatency(50 * time.Millisecond)
				address := strings.Replace(s.URL(), "https://127.0.0.1", "https://localhost", 1)
				c := start(t, kind, flags, address)
				base := c.URL + "/" + strings.Replace(address, "://", "/", 1)
				at := base + "/d/a%20b.xvm?k=v"
				const span = "262144-524287"
				var all sync.WaitGroup
				for range 8 {
					all.Go(func() {
						if code, etag, body := ask(t, at, span, `"one"`); code != 206 || etag != `"one"` || !bytes.Equal(body, content[262144:524288]) {
							t.Errorf("status %d, ETag %s, %d bytes", code, etag, len(body))
						}
					})
				}
				all.Wait()
				if log := s.Log(); len(log) != 1 || log[0].Header.Get("Authorization") != "" || log[0].Header.Get("Cookie") != "" || log[0].Header.Get("If-Range") != `"one"` {
					t.Errorf("the origin was asked %d times: %v", len(log), log)
				}
				if code, _, _ := ask(t, at, "0-99", ""); code != 206 {
					t.Errorf("a look: status %d", code)
				}
				for _, url := range []string{c.URL + "/", c.URL + "/https/example.com/x", base + "0/d/a", "http://example.com/"} {
					u := strings.Replace(url, "http://example.com", c.URL, 1)
					if code, _, _ := ask(t, u, span, ""); code != 403 && code != 404 {
						t.Errorf("%s: status %d", url, code)
					}
				}
				testkit.Eventually(t, "the piece is stored", time.Minute, func() bool { // a cache may answer before it is
					before := len(s.Log())
					code, _, _ := ask(t, at, span, `"one"`)
					return code == 206 && len(s.Log()) == before
				})
				put(`"two"`)
				before := len(s.Log())
				if code, _, body := ask(t, at, span, `"one"`); code != 206 || len(s.Log()) != before || len(body) != 262144 {
					t.Errorf("the old version is not here any more: status %d", code)
				}
				if code, etag, _ := ask(t, at, span, `"two"`); code != 206 || etag != `"two"` {
					t.Errorf("the new version: status %d, ETag %s", code, etag)
				}
				if code, _, _ := ask(t, at, "0-9", `"one"`); code != 200 {
					t.Errorf("another piece of the old version: status %d", code)
				}
				s.Down()
				for range 2 {
					if code, etag, _ := ask(t, at, span, `"one"`); code != 206 || etag != `"one"` {
						t.Errorf("the origin is down, and what is here is not served: status %d", code)
					}
				}
				if code, _, _ := ask(t, at, "0-99", ""); code != 206 {
					t.Errorf("a look while the origin is down: status %d", code)
				}
				begun := time.Now()
				if code, _, _ := ask(t, at, "524288-786431", `"one"`); code < 500 {
					t.Errorf("what is not here: status %d", code)
				}
				t.Logf("what is not here is told after %v", time.Since(begun))
			})
		}
	}
}

// A mirror of mirrors: the racks' asks the site's, which asks the origin.
func TestParent(t *testing.T) {
	for kind := range rackcache.Programs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := origin.New()
			s.Put("/f", bytes.NewReader(make([]byte, 1<<20)), 1<<20, time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
			if err := s.Start(); err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			site := start(t, kind, nil, s.URL())
			for range 2 {
				rack := start(t, kind, []string{"--parent", site.URL}, s.URL())
				if code, etag, body := ask(t, rack.URL+"/"+strings.Replace(s.URL(), "://", "/", 1)+"/f", "0-262143", `"one"`); code != 206 || etag != `"one"` || len(body) != 262144 {
					t.Errorf("status %d, ETag %s, %d bytes", code, etag, len(body))
				}
			}
			if n := len(s.Log()); n != 1 {
				t.Errorf("the origin was asked %d times", n)
			}
		})
	}
}

// Whoever may use a mirror reaches nothing by it but the origins that it was made for, and these
// by GET alone, however the request is written.
func TestNoOpenProxy(t *testing.T) {
	for kind := range rackcache.Programs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			serve := func() *origin.Server {
				s := origin.New()
				for _, path := range []string{"/f", "/", "/http/f"} {
					s.Put(path, bytes.NewReader(make([]byte, 1<<20)), 1<<20, time.Now().Add(-time.Hour), `"one"`, "application/x-tar")
				}
				if err := s.Start(); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { s.Close() })
				return s
			}
			s, other := serve(), serve()
			c := start(t, kind, nil, s.URL())
			listed, victim := strings.TrimPrefix(s.URL(), "http://"), strings.TrimPrefix(other.URL(), "http://")
			port := victim[strings.LastIndex(victim, ":"):]
			send := func(request string) string {
				conn, err := net.Dial("tcp", strings.TrimPrefix(c.URL, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(time.Minute))
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				status, _ := bufio.NewReader(conn).ReadString('\n') // a reset is a refusal
				return strings.TrimSpace(status)
			}
			const span = "Range: bytes=0-99\r\nConnection: close\r\n"
			for _, ifRange := range []string{"", "If-Range: \"one\"\r\n"} {
				for _, at := range []string{
					"http://" + victim + "/f", "http://" + victim + "/http/" + listed + "/../../" + victim + "/f", "https://" + victim + "/f",
					"/http/" + victim + "/f", "/http/" + listed + "/../" + victim + "/f", "/http/" + listed + "/%2e%2e/" + victim + "/f",
					"/http/" + listed + "/..%2f" + victim + "/f", "/http/" + listed + "%2f..%2f" + victim + "/f", "/http/" + listed + "@" + victim + "/f",
					"/http/x:y@" + victim + "/f", "/http/" + listed + "%40" + victim + "/f", "//" + victim + "/f", "/http//" + victim + "/f", "/http:/" + victim + "/f",
					"/http/[::1]" + port + "/f", "/http/[::ffff:127.0.0.1]" + port + "/f", "/http/localhost" + port + "/f", "/http/2130706433" + port + "/f",
					"/http/" + listed + ":80/f", "/http/" + listed + "0/f", "/https/" + listed + "/f", "/http/" + listed + "\\@" + victim + "/f", "/HTTP/" + victim + "/f",
					"/http/" + listed + "?@" + victim + "/f", "/http/" + listed + "#@" + victim + "/f", "/", "*", "",
				} {
					for _, host := range []string{victim, listed, "x, " + victim} {
						if status := send("GET " + at + " HTTP/1.1\r\nHost: " + host + "\r\n" + ifRange + span + "\r\n"); strings.Contains(status, " 20") {
							t.Errorf("GET %s of host %s: %s", at, host, status)
						}
					}
				}
				good := "/http/" + listed + "/f"
				for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE", "PUSH", "GET2"} {
					if status := send(method + " " + good + " HTTP/1.1\r\nHost: x\r\n" + ifRange + span + "Content-Length: 0\r\n\r\n"); strings.Contains(status, " 20") {
						t.Errorf("%s: %s", method, status)
					}
				}
				for _, at := range []string{victim, listed, "/http/" + victim, good} {
					if status := send("CONNECT " + at + " HTTP/1.1\r\nHost: " + victim + "\r\n\r\n"); strings.Contains(status, " 20") {
						t.Errorf("CONNECT %s: %s", at, status)
					}
				}
				// What names another host besides the path says nothing.
				if status := send("GET " + good + " HTTP/1.1\r\nHost: " + victim + "\r\nX-Forwarded-Host: " + victim + "\r\nX-Original-URL: /http/" + victim + "/f\r\nX-Rewrite-URL: /\r\n" +
					"Forwarded: host=" + victim + "\r\n@" + victim + ": x\r\n" + ifRange + span + "\r\n"); strings.Contains(status, " 5") {
					t.Errorf("names of other hosts: %s", status)
				}
				if status := send("GET " + good + " HTTP/1.1\r\nHost: " + victim + "\r\n" + ifRange + span + "\r\n"); !strings.Contains(status, " 206") {
					t.Errorf("what is listed: %s", status)
				}
			}
			if log := other.Log(); len(log) > 0 {
				t.Errorf("another server was reached: %s %s", log[0].Method, log[0].Path)
			}
			for _, q := range s.Log() {
				if q.Method != "GET" && q.Method != "HEAD" || q.Host != listed {
					t.Errorf("the origin was asked for %s of %s", q.Method, q.Host)
				}
			}
		})
	}
}
