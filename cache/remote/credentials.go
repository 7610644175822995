package remote

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"

	"github.com/jdx/go-netrc"
	"golang.org/x/net/http/httpguts"
)

// maxSecrets is the size to which a netrc or token file is read, in bytes.
const maxSecrets = 1 << 20

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
	if err == nil && f.last != nil && os.SameFile(info, f.last) && info.ModTime().Equal(f.last.ModTime()) && info.Size() == f.last.Size() {
		return f.text, false, nil
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

func readAtMost(path string, limit int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(content)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return content, err
}

// credentials knows what to say to whom.
type credentials struct {
	token *secretFile // nil without
	netrc *secretFile // nil without

	mu     sync.Mutex // guards parsed; taken before the locks of the files
	parsed *netrc.Netrc
}

func newCredentials(o Options) *credentials {
	c := &credentials{}
	if o.TokenFile != "" {
		c.token = &secretFile{path: o.TokenFile, limit: maxSecrets}
	}
	if o.Netrc != "" {
		c.netrc = &secretFile{path: o.Netrc, limit: maxSecrets}
	}
	return c
}

// authorize adds what the origin of hop may see of the secrets of a route: userinfo and
// netrc if it is the origin of the URL itself, the token if it is that of the feed.
func (c *credentials) authorize(r *route, hop *url.URL, h http.Header) error {
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
	if c.netrc == nil {
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
