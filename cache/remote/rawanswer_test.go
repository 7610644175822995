package remote

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
)

// rawServer answers whoever asks for what lies behind the head of an object with
// what answer writes, and keeps to HTTP before that.
func rawServer(t *testing.T, object []byte, answer func(w io.Writer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go func() {
				defer conn.Close()
				for in := bufio.NewReader(conn); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if r.Header.Get("Range") != fmt.Sprintf("bytes=0-%d", headSize-1) {
						answer(conn)
						return
					}
					fmt.Fprintf(conn, "HTTP/1.1 206 P\r\nETag: \"e\"\r\nContent-Length: %d\r\nContent-Range: bytes 0-%d/%d\r\n\r\n%s",
						headSize, headSize-1, len(object), object[:headSize])
				}
			}()
		}
	}()
	return "http://" + l.Addr().String() + "/f"
}

// Answers that no server of ours would give, byte by byte. What is right comes
// through, all else is an error: no other bytes, no waiting, no growing.
func TestH8H9H10H16H17RawAnswers(t *testing.T) {
	object := content(200_000)
	const off, n = 150_000, 3000
	body := string(object[off : off+n])
	const good = "ETag: \"e\"\r\nContent-Range: bytes 150000-152999/200000\r\n"
	const length = "Content-Length: 3000\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n", n, body)
	text := func(parts ...string) func(io.Writer) {
		return func(w io.Writer) { io.WriteString(w, strings.Join(parts, "")) }
	}
	endless := func(head, part string) func(io.Writer) { // until the reader has had enough
		return func(w io.Writer) {
			part := strings.Repeat(part, max(1, 4096/len(part)))
			for _, err := io.WriteString(w, head); err == nil; {
				_, err = io.WriteString(w, part)
			}
		}
	}
	drip := func(head, part string) func(io.Writer) {
		return func(w io.Writer) {
			for _, err := io.WriteString(w, head); err == nil; time.Sleep(5 * time.Millisecond) {
				_, err = io.WriteString(w, part)
			}
		}
	}
	const status = "HTTP/1.1 206 P\r\n"
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	t.Cleanup(func() { // the subtests have ended
		var after runtime.MemStats
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
			t.Errorf("%d MiB were asked for", grown>>20)
		}
	})
	for name, tt := range map[string]struct {
		answer func(io.Writer)
		right  bool
	}{
		"H8 plain":                         {text(status, good, length, "\r\n", body), true},
		"H8 chunked":                       {text(status, good, "Transfer-Encoding: chunked\r\n\r\n", chunked, "0\r\n\r\n"), true},
		"H8 HTTP/1.0, to the end":          {text("HTTP/1.0 206 P\r\n", good, "\r\n", body), true},
		"H8 chunked, and a false length":   {text(status, good, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, "0\r\n\r\n"), true},
		"H8 two lengths":                   {text(status, good, length, "Content-Length: 3001\r\n\r\n", body, "x"), false},
		"H8 negative length":               {text(status, good, "Content-Length: -3000\r\n\r\n", body), false},
		"H8 two ranges":                    {text(status, good, "Content-Range: bytes 0-2999/200000\r\n", length, "\r\n", body), false},
		"H8 two ranges, the same":          {text(status, good, "Content-Range: bytes 150000-152999/200000\r\n", length, "\r\n", body), false},
		"H8 ranges in a list":              {text(status, "ETag: \"e\"\r\nContent-Range: bytes 150000-152999/200000, bytes 0-1/200000\r\n", length, "\r\n", body), false},
		"H8 other unit":                    {text(status, "ETag: \"e\"\r\nContent-Range: lines 150000-152999/200000\r\n", length, "\r\n", body), false},
		"H8 other coding of the connexion": {text(status, good, "Transfer-Encoding: gzip, chunked\r\n\r\n", chunked, "0\r\n\r\n"), false},
		"H8 chunk of 2^64":                 {text(status, good, "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), false},
		"H8 chunk of 2^68":                 {text(status, good, "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", body), false},
		"H8 chunk shorter than told":       {text(status, good, "Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s", n+10, body[:10])), false},
		"H8 chunks end too early":          {text(status, good, "Transfer-Encoding: chunked\r\n\r\na\r\n", body[:10], "\r\n0\r\n\r\n"), false},
		"H8 status 101":                    {text("HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n", good, "\r\n", body), false},
		"H8 status 299":                    {text("HTTP/1.1 299 P\r\n", good, length, "\r\n", body), false},
		"H8 status 20":                     {text("HTTP/1.1 20 P\r\n", good, length, "\r\n", body), false},
		"H8 no HTTP":                       {text(body), false},
		"H9 multipart, with a range":       {text(status, good, "Content-Type: Multipart/ByteRanges; boundary=x\r\n", length, "\r\n", body), false},
		"H10 coded":                        {text(status, good, "Content-Encoding: gzip\r\n", length, "\r\n", body), false},
		"H10 coded twice":                  {text(status, good, "Content-Encoding: identity, gzip\r\n", length, "\r\n", body), false},
		"H10 coded, said second":           {text(status, good, "Content-Encoding: identity\r\nContent-Encoding: br\r\n", length, "\r\n", body), false},
		"H10 range on 200":                 {text("HTTP/1.1 200 OK\r\n", good, length, "\r\n", body), false},
		"H16 header without end":           {endless(status+good, "X: y\r\n"), false},
		"H16 header line without end":      {endless(status+good+"X: ", "y"), false},
		"H16 status line without end":      {endless("HTTP/1.1 206 ", "P"), false},
		"H16 hints without end":            {endless("", "HTTP/1.1 103 E\r\nLink: x\r\n\r\n"), false},
		"H16 100s without end":             {endless("", "HTTP/1.1 100 C\r\n\r\n"), false},
		"H16 a few hints":                  {text(strings.Repeat("HTTP/1.1 103 E\r\nLink: x\r\n\r\n", 3), status, good, length, "\r\n", body), true},
		"H16 chunk extension without end":  {endless(status+good+"Transfer-Encoding: chunked\r\n\r\nbb8;", "x"), false},
		"H16 trailer without end":          {endless(status+good+"Transfer-Encoding: chunked\r\n\r\n"+chunked+"0\r\n", "X: y\r\n"), true},
		"H16 trailer that lies":            {text(status, good, "Trailer: Content-Range, ETag\r\nTransfer-Encoding: chunked\r\n\r\n", chunked, "0\r\nContent-Range: bytes 0-2999/200000\r\nETag: \"other\"\r\n\r\n"), true},
		"H17 header that drips":            {drip(status, "X"), false},
		"H17 body that drips":              {drip(status+good+length+"\r\n", "x"), false},
		"H17 chunks that drip":             {drip(status+good+"Transfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"), false},
		"H17 hints that drip":              {drip("", "HTTP/1.1 103 E\r\n\r\n"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := open(t, client(t), rawServer(t, object, tt.answer))
			if !tt.right {
				o = client(t, func(o *Options) { o.Timeo, o.StallTimeout = 400*time.Millisecond, 150*time.Millisecond }).Resume(o.shown, "", o.Identity())
			}
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			r, err := o.Fetch(ctx, off, n, source.Demand)
			var got []byte
			if err == nil {
				got, err = io.ReadAll(r)
				r.Close()
			}
			if ctx.Err() != nil {
				t.Error("it takes no end")
			}
			if tt.right != (err == nil) || tt.right && string(got) != body {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if drips := strings.Contains(name, "drip"); !drips && !strings.HasPrefix(body, string(got)) {
				t.Error("other bytes than those of the object")
			}
			if err != nil && strings.ContainsAny(err.Error(), "\r\n\x1b") {
				t.Errorf("the message is %q", err)
			}
		})
	}
}

// A password in a redirect is nobody's: it is neither sent, nor kept, nor told.
func TestH6UserinfoInARedirect(t *testing.T) {
	s, want := serve(t)
	for _, to := range []string{strings.Replace(s.URL(), "//", "//user:sekret@", 1) + "/f", strings.Replace(s.URL(), "http://", "//user:sekret@", 1) + "/f"} {
		s.Put("/moved", bytes.NewReader(nil), 0, time.Time{}, "", "")
		remove := s.Inject(origin.Fault{Path: "/moved", Kind: origin.Redirect, Value: to})
		s.ResetStats()
		c := client(t)
		o := open(t, c, s.URL()+"/moved")
		mustFetch(t, o, want, 0, 10)
		d, err := c.Get(t.Context(), s.URL()+"/moved", "", "", testSize)
		if err != nil || d.FinalURL != s.URL()+"/f" {
			t.Errorf("%+v, %v", d, err)
		}
		for _, r := range s.Log() {
			if got := r.Header.Get("Authorization"); got != "" {
				t.Errorf("%s was sent %q", r.Path, got)
			}
		}
		remove()
	}
	for _, to := range []string{"file://user:sekret@localhost/etc/passwd", "http://user:sekret@[::1", "http://sekret@:80/", "https:sekret@h/"} {
		remove := s.Inject(origin.Fault{Path: "/moved", Kind: origin.Redirect, Value: to})
		if _, err := client(t).Open(t.Context(), s.URL()+"/moved", ""); !errors.Is(err, ErrRefused) || strings.Contains(err.Error(), "sekret") {
			t.Errorf("redirect to %s: %v", to, err)
		}
		remove()
	}
}
