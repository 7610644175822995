package remote

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"vmcastfs/feed/show"
)

// maxURL is the longest URL followed, in bytes.
const maxURL = 8 << 10

// parseURL returns an absolute http or https URL without fragment and userinfo, and the
// latter. Its errors do not quote the URL, which may hold secrets.
func parseURL(raw string) (*url.URL, *url.Userinfo, error) {
	if len(raw) > maxURL {
		return nil, nil, fmt.Errorf("URL of %d bytes: %w", len(raw), ErrRefused)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, nil, errors.New("not a valid URL")
	}
	user := u.User
	u.User, u.Fragment, u.RawFragment = nil, "", ""
	u.Scheme = strings.ToLower(u.Scheme)
	if err := checkURL(u); err != nil {
		return nil, nil, err
	}
	return u, user, nil
}

func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("URL scheme %q (only http and https are fetched): %w", show.Clip(u.Scheme, 32), ErrRefused)
	case u.Opaque != "" || u.Hostname() == "":
		return fmt.Errorf("URL without a host: %w", ErrRefused)
	}
	return nil
}

// originOf returns scheme://host:port (RFC 6454), lower case and with the port.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
