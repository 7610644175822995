// Package mirrorconfig writes the configuration of a stock HTTP cache that stands between a
// rack and the origins of its releases: nginx, or Apache Traffic Server, as Debian ships them.
// It does no I/O.
//
// The client decides what such a cache must do: it asks for pieces that all hosts cut alike,
// with a Range and the ETag of the archive in If-Range. So the cache keeps each answer 206
// under URL, Range and If-Range, for good: another version of the archive has another key.
// Requests without If-Range, by which a client that cannot reach an origin finds out what the
// archive is, count for a minute, and longer only while the origin fails.
package mirrorconfig

import (
	_ "embed"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"text/template"
)

// Options say what the cache is to be like.
type Options struct {
	Origins []string // https://HOST[:PORT]
	Parent  string   // the mirror of a site that is asked instead of the origins; "": none
	Listen  string   // [ADDRESS:]PORT
	Dir     string   // of the cache; "": the usual one
	Size    int64    // bytes of disk that it may take
	Allow   []string // networks of the hosts
	CACert  string   // authorities that vouch for the origins
	Build   string   // of the program that writes this
}

// private are the networks that a rack may be in.
var private = []string{"127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7", "fe80::/10"}

// pieceBytes is the piece that clients ask for, and so what a key of the cache stands for.
const pieceBytes = 256 << 10

//go:embed nginx.conf.tmpl
var nginxText string

//go:embed trafficserver.sh.tmpl
var trafficText string

// Nginx is a file for /etc/nginx/conf.d.
func Nginx(o Options) (string, error) { return o.write(nginxText, "/var/cache/nginx-vmcast") }

// TrafficServer is a script for sh that writes files into /etc/trafficserver.
func TrafficServer(o Options) (string, error) {
	return o.write(trafficText, "/var/cache/trafficserver")
}

// site is one origin, for the templates.
type site struct {
	Path       string // under which the cache has it: https/example.org
	Name       string // of its upstream
	Scheme     string
	Host, Port string // where it is asked, the name in Host also for TLS
	Authority  string // HOST[:PORT]
	Prefix     string // of the paths there
}

// An address may be in brackets. What else is taken fits into every configuration as it is.
var hostName = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$`)

// parseOrigin takes an address apart.
func parseOrigin(raw, what string) (s site, err error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" {
		return s, fmt.Errorf("%s must be http://HOST[:PORT] or https://HOST[:PORT], without a path", what)
	}
	host := strings.ToLower(u.Host)
	name := strings.TrimSuffix(host, ":"+u.Port())
	if !hostName.MatchString(name) {
		return s, fmt.Errorf("%s names no host", what)
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && u.Scheme == "https" {
		return s, fmt.Errorf("%s: these caches check certificates by name alone: name the host", what)
	}
	usual := map[string]string{"http": "80", "https": "443"}[u.Scheme]
	s = site{Scheme: u.Scheme, Host: name, Port: u.Port(), Authority: host}
	if s.Port == "" || s.Port == usual {
		s.Port, s.Authority = usual, name
	}
	s.Path = s.Scheme + "/" + s.Authority
	s.Name = "vmcast_" + regexp.MustCompile(`[^a-z0-9]`).ReplaceAllString(s.Path, "_")
	return s, nil
}

func (o Options) write(text, dir string) (string, error) {
	data := struct {
		Options
		Sites      []site
		Port       string
		Keys       int // MiB of memory for them
		MiB        int64
		DirDefault bool
	}{Options: o, MiB: max(1, o.Size>>20)}
	if len(o.Origins) == 0 {
		return "", errors.New("no origin is named: https://HOST[:PORT] of the packages' addresses")
	}
	var parent site
	if o.Parent != "" {
		var err error
		if parent, err = parseOrigin(o.Parent, "the parent"); err != nil {
			return "", err
		}
	}
	for _, raw := range o.Origins {
		s, err := parseOrigin(raw, fmt.Sprintf("the origin %q", raw))
		if err != nil {
			return "", err
		}
		if o.Parent != "" {
			s.Prefix = "/" + s.Path
			s.Scheme, s.Host, s.Port, s.Authority = parent.Scheme, parent.Host, parent.Port, parent.Authority
		}
		if !slices.ContainsFunc(data.Sites, func(t site) bool { return t.Path == s.Path }) {
			data.Sites = append(data.Sites, s)
		}
	}
	data.Listen, data.Port = o.Listen, o.Listen
	if !strings.Contains(o.Listen, ":") {
		data.Listen = "0.0.0.0:" + o.Listen
	}
	at, err := netip.ParseAddrPort(data.Listen)
	if err != nil || at.Port() == 0 {
		return "", fmt.Errorf("%q is no [ADDRESS:]PORT to listen on", o.Listen)
	}
	data.Port = fmt.Sprint(at.Port())
	if len(o.Allow) == 0 {
		data.Allow = private
	}
	for _, network := range data.Allow {
		if _, err := netip.ParsePrefix(network); err != nil {
			return "", fmt.Errorf("%q is no network: ADDRESS/BITS", network)
		}
	}
	if data.Dir == "" {
		data.Dir, data.DirDefault = dir, true
	}
	for _, path := range []string{data.Dir, o.CACert} {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, " \t\n\"'\\;{}$#") {
			return "", fmt.Errorf("the path %q is not absolute, or has blanks or signs that a configuration takes for its own", path)
		}
	}
	if o.Size < 64<<20 {
		return "", errors.New("a cache of less than 64 MiB is of no use")
	}
	data.Keys = int(o.Size/pieceBytes/8000) + 1 // nginx has room for 8000 keys in a MiB
	t, err := template.New("").Parse(text)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	err = t.Execute(&out, data)
	return out.String(), err
}
