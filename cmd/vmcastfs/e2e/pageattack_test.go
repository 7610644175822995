package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// TestPageUnderAttack: whoever opens a thousand connections to the page, or sends half a request, takes
// no file from the mount, and the page is there again afterwards. No path leads out of it, and a title
// of 50 KB does not make it large.
func TestPageUnderAttack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, appliance.Options{})
	long := strings.Repeat("<svg onload=alert(1)>", 2_500)
	feed := strings.Replace(string(w.app.Feed), "<title>demo 1.0", "<title><![CDATA["+long+"]]>", 1)
	w.origin.PutBytes(appliance.FeedPath, []byte(feed))
	port := freePort(t)
	address := "127.0.0.1:" + port
	w.mount("http="+address, "complete=off")
	page := func() (string, error) {
		c := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Get("http://" + address + "/")
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		return string(body), err
	}
	text, err := page()
	if err != nil || len(text) > 100_000 || strings.Contains(text, "<svg onload") {
		t.Errorf("with a title of 50 KB: %v, %d bytes", err, len(text))
	}
	open := func(n int, request string) (list []net.Conn) {
		t.Helper()
		for range n {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			_, _ = io.WriteString(c, request) // a server that has had enough closes it
			list = append(list, c)
		}
		return list
	}
	for _, path := range []string{"/../../../etc/passwd", "//etc/passwd", "/static/../page.html", "/live/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "http://127.0.0.1/../etc/passwd"} {
		c := open(1, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")[0]
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode == http.StatusOK || strings.Contains(string(body), "root:") {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	watching := open(1000, "GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(watching[0]), nil); err != nil {
		t.Errorf("the first of a thousand: %v", err)
	}
	for _, pid := range w.daemons() {
		// One more is accepted before it is closed.
		testkit.Eventually(t, "64 connections at most are open of a thousand", time.Minute, func() bool {
			n := served(t, pid, port)
			return n > 0 && n <= 64
		})
	}
	w.wantFile(w.app.Disk, "latest", appliance.DiskName)
	for _, c := range watching {
		c.Close()
	}
	testkit.Eventually(t, "the page is there after a thousand who watched", time.Minute, func() bool { _, err := page(); return err == nil })
	open(200, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	w.wantFile(w.app.Disk, "latest", appliance.DiskName)
	testkit.Eventually(t, "the page is there beside those who never finish", 2*time.Minute, func() bool { _, err := page(); return err == nil })
}
