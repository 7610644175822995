package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
)

// maxAuthorities is the size to which a file of authorities is read, in bytes.
const maxAuthorities = 16 << 20

// certificates are the files of the TLS options, which are read again when they change.
// While they do not fit together, as in the middle of being replaced, the last that did stand.
type certificates struct {
	ca, cert, key *secretFile // nil without

	mu     sync.Mutex // guards config; taken before the locks of the files
	config *tls.Config
}

func newCertificates(o Options) (*certificates, error) {
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("a client certificate needs both its certificate and its key file")
	}
	c := &certificates{}
	if o.CACert != "" {
		c.ca = &secretFile{path: o.CACert, limit: maxAuthorities}
	}
	if o.Cert != "" {
		c.cert, c.key = &secretFile{path: o.Cert, limit: maxSecrets}, &secretFile{path: o.Key, limit: maxSecrets}
	}
	if _, err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// current returns the configuration of TLS; it must not be modified.
func (c *certificates) current() *tls.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config
}

// read looks whether the files have changed, and whether there is a new configuration.
func (c *certificates) read() (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changed = c.config == nil
	text := map[*secretFile]string{}
	for _, f := range []*secretFile{c.ca, c.cert, c.key} {
		if f == nil {
			continue
		}
		content, new, err := f.read()
		if err != nil {
			return false, err
		}
		text[f] = content
		changed = changed || new
	}
	if !changed {
		return false, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != nil {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(text[c.ca])) {
			return false, fmt.Errorf("no certificate in %q", c.ca.path)
		}
	}
	if c.cert != nil {
		cert, err := tls.X509KeyPair([]byte(text[c.cert]), []byte(text[c.key]))
		if err != nil {
			return false, fmt.Errorf("client certificate %q, key %q: %w", c.cert.path, c.key.path, err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	c.config = config
	return true, nil
}

// renewCertificates reads the certificates again, and gives up all connections if there
// are new ones: those at hand show the old.
func (c *Client) renewCertificates() {
	changed, err := c.certificates.read()
	if err != nil {
		c.options.Logger.Warn("the new certificates are of no use; the old ones stay", "err", err)
	}
	if !changed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		p.renew()
	}
}
