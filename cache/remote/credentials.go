package remote

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jdx/go-netrc"
	"golang.org/x/net/http/httpguts"
)

const (
	// maxSecrets is the size to which a netrc, token or header file is read, in bytes.
	maxSecrets = 1 << 20
	// maxHeaders is how many headers of such a file there may be.
	maxHeaders = 64
)

// A secretFile is a small file that is read again when it has changed. While it is
// unreadable, or empty in the middle of being rewritten, its last content stands.
type secretFile struct {
	path  string
	limit int64 // of its size, in bytes

	mu   sync.Mutex // guards all below
	last os.FileInfo
	text string
}

// read returns the content, and whether it differs from that of the last call.
func (f *secretFile) read() (text string, changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.last != nil {
		same := os.SameFile(info, f.last) && info.ModTime().Equal(f.last.ModTime()) && info.Size() == f.last.Size()
		if same || !info.Mode().IsRegular() { // a pipe gives its content once, and would be waited for
			return f.text, false, nil
		}
	}
	var content []byte
	if err == nil {
		content, err = readAtMost(f.path, f.limit)
	}
	if err == nil && len(content) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		if f.last != nil {
			return f.text, false, nil
		}
		return "", false, fmt.Errorf("read %q: %w", f.path, err)
	}
	f.last, f.text = info, string(content)
	return f.text, true, nil
}

// pipeTime is how long the writer of a pipe is waited for that stands in the place of a file.
const pipeTime = 2 * time.Second

func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe may have no writer
	if err != nil {
		return nil, err
	}
	defer file.Close()
	_ = file.SetReadDeadline(time.Now().Add(pipeTime)) // files need none
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return content, err
}

// credentials knows what to say to whom.
type credentials struct {
	headers *secretFile // nil without
	token   *secretFile // nil without
	netrc   *secretFile // nil without

	mu     sync.Mutex // guards parsed; taken before the locks of the files
	parsed *netrc.Netrc
}

func newCredentials(o Options) *credentials {
	c := &credentials{}
	if o.HeaderFile != "" {
		c.headers = &secretFile{path: o.HeaderFile, limit: maxSecrets}
	}
	if o.TokenFile != "" {
		c.token = &secretFile{path: o.TokenFile, limit: maxSecrets}
	}
	if o.Netrc != "" {
		c.netrc = &secretFile{path: o.Netrc, limit: maxSecrets}
	}
	return c
}

// authorize adds what the origin of hop may see of the secrets of a route: userinfo and
// netrc if it is the origin of the URL itself, the token and the headers if it is that of the
// feed. A header of the file goes before all others.
func (c *credentials) authorize(r *route, hop *url.URL, h http.Header) error {
	if err := c.login(r, hop, h); err != nil {
		return err
	}
	if c.headers == nil || originOf(hop) != r.baseOrigin {
		return nil
	}
	text, _, err := c.headers.read()
	if err != nil {
		return err
	}
	own, err := parseHeaders(text)
	if err != nil {
		return fmt.Errorf("header file %q: %w", c.headers.path, err)
	}
	maps.Copy(h, own)
	return nil
}

// login adds the Authorization header, if there is one for hop.
func (c *credentials) login(r *route, hop *url.URL, h http.Header) error {
	origin := originOf(hop)
	if c.token != nil && origin == r.baseOrigin {
		text, _, err := c.token.read()
		if err != nil {
			return err
		}
		text = strings.TrimSpace(text)
		if text == "" || strings.ContainsAny(text, " \t\r\n") || !httpguts.ValidHeaderFieldValue(text) {
			return fmt.Errorf("token file %q does not hold one token", c.token.path)
		}
		h.Set("Authorization", "Bearer "+text)
		return nil
	}
	if origin != r.origin {
		return nil
	}
	if r.user != nil {
		password, _ := r.user.Password()
		setBasic(h, r.user.Username(), password)
		return nil
	}
	if c.netrc == nil || r.mirror != nil && !r.mirror.Credentials {
		return nil
	}
	login, password, err := c.lookup(hop.Hostname(), origin == r.baseOrigin)
	if err != nil {
		return err
	}
	if login != "" || password != "" {
		setBasic(h, login, password)
	}
	return nil
}

func setBasic(h http.Header, login, password string) {
	req := http.Request{Header: h}
	req.SetBasicAuth(login, password)
}

// lookup finds the netrc entry of a host. The default entry is only for the host of the
// feed: others are named by the feed, not by the administrator.
func (c *credentials) lookup(host string, useDefault bool) (login, password string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, changed, err := c.netrc.read()
	if err != nil {
		return "", "", err
	}
	if changed || c.parsed == nil {
		// The parser fails on a file that ends after "machine"; a last entry of ours
		// keeps it from that.
		parsed, err := netrc.ParseString(text + "\nmachine invalid. login - password -\n")
		if err != nil {
			return "", "", fmt.Errorf("netrc file %q: %w", c.netrc.path, err)
		}
		c.parsed = parsed
	}
	for _, m := range c.parsed.Machines() {
		if m.IsDefault && useDefault || !m.IsDefault && strings.EqualFold(m.Name, host) {
			return m.Get("login"), m.Get("password"), nil
		}
	}
	return "", "", nil
}

// ownHeaders are those that this package says itself, or that belong to one connection.
var ownHeaders = []string{"Accept-Encoding", "Connection", "Content-Length", "Expect", "Host", "If-Match", "If-Modified-Since",
	"If-None-Match", "If-Range", "If-Unmodified-Since", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Range", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade"}

// parseHeaders reads "Name: value" lines. Empty ones and those that begin with # count for
// nothing. Errors tell the number of a line, and not what it holds.
func parseHeaders(text string) (http.Header, error) {
	h := http.Header{}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if !ok || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, fmt.Errorf("line %d is no header of the form Name: value", n)
		}
		name = http.CanonicalHeaderKey(name)
		if slices.Contains(ownHeaders, name) {
			return nil, fmt.Errorf("line %d: %s cannot be set", n, name)
		}
		if len(h) == maxHeaders {
			return nil, fmt.Errorf("more than %d headers", maxHeaders)
		}
		h.Add(name, value)
	}
	return h, nil
}
