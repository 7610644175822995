package feed

import (
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mmcdole/gofeed"

	"vmcastfs/feed/show"
	"vmcastfs/xvm/seekable"
)

// The ranks of an enclosure. Of several in one item, the package is the one with
// the lowest rank; among equals it is the first in the feed.
const (
	rankXVM     = iota // .xvm, .xvm2: what this is all about, may be signed and verified
	rankArchive        // .ova, .xva, .tar: disks with a description
	rankDisk           // a bare disk image
	rankUnknown        // says nothing about itself
	rankDoubt          // claims to be text or HTML; many servers' default
	rankOther          // a picture, a signature, a torrent: never a package
)

// kinds are what file names end in, without the compression.
var kinds = map[string]int{
	".xvm": rankXVM, ".xvm2": rankXVM,
	".ova": rankArchive, ".xva": rankArchive, ".tar": rankArchive, ".tgz": rankArchive, ".txz": rankArchive,
	".img": rankDisk, ".raw": rankDisk, ".qcow2": rankDisk, ".qcow": rankDisk, ".vmdk": rankDisk, ".vhd": rankDisk,
	".vhdx": rankDisk, ".vdi": rankDisk, ".hdd": rankDisk, ".hds": rankDisk, ".iso": rankDisk, ".dmg": rankDisk, ".ami": rankDisk,
	".asc": rankOther, ".sig": rankOther, ".gpg": rankOther, ".torrent": rankOther, ".metalink": rankOther, ".meta4": rankOther,
	".md5": rankOther, ".sha1": rankOther, ".sha256": rankOther, ".sha512": rankOther, ".txt": rankOther, ".pdf": rankOther,
	".png": rankOther, ".jpg": rankOther, ".jpeg": rankOther, ".gif": rankOther, ".svg": rankOther, ".webp": rankOther,
	".mp3": rankOther, ".mp4": rankOther, ".ogg": rankOther, ".m4a": rankOther, ".webm": rankOther,
}

// typeOf is the MIME type for a package or image of this file name, as
// [Channel] writes it.
func typeOf(name string) string {
	format, ext := splitKind(name)
	if format != "" {
		return format.MediaType()
	}
	switch {
	case ext == ".xvm2":
		return "application/enomalism2-xvm2"
	case ext == ".xvm":
		return "application/x-xvm"
	case ext == ".ova", ext == ".xva", ext == ".tar":
		return "application/x-tar"
	}
	return "application/octet-stream"
}

// PackageStem cuts the kind and the compression from the file name of a package,
// a machine's archive or a disk image. ok tells whether the file is called like one.
// Plain tar files are not: most of them are something else.
func PackageStem(name string) (stem string, ok bool) {
	format, kind := splitKind(name)
	r, known := kinds[kind]
	if !known || r > rankDisk || !utf8.ValidString(name) {
		return "", false
	}
	stem = name[:len(name)-len(format.Suffix())-len(kind)]
	switch {
	case stem == "", strings.HasPrefix(name, "."), !strings.EqualFold(name[len(stem):len(stem)+len(kind)], kind):
		return "", false
	case kind == ".tar", kind == ".tgz", kind == ".txz":
		return "", false
	}
	return stem, true
}

// splitKind returns the compression that a file name claims, if any, and the
// suffix in front of it, in lower case.
func splitKind(name string) (format seekable.Format, kind string) {
	format, plain := seekable.PlainName(path.Base(name))
	return format, strings.ToLower(path.Ext(plain))
}

// rank judges an enclosure by the end of its name, then by its type.
func rank(u *url.URL, mime string) int {
	_, kind := splitKind(u.Path)
	if r, ok := kinds[kind]; ok {
		return r
	}
	major, _, _ := strings.Cut(mime, "/")
	switch {
	case strings.Contains(mime, "xvm"):
		return rankXVM
	case strings.Contains(mime, "x-tar"), strings.Contains(mime, "virtualbox"), strings.Contains(mime, "ovf"):
		return rankArchive
	case strings.Contains(mime, "disk"), strings.Contains(mime, "qemu"), strings.Contains(mime, "vmdk"), strings.Contains(mime, "cd-image"):
		return rankDisk
	case major == "image", major == "audio", major == "video", mime == "application/pdf", mime == "application/x-bittorrent", mime == "application/pgp-signature":
		return rankOther
	case major == "text", mime == "application/xhtml+xml":
		return rankDoubt
	}
	return rankUnknown
}

// enclosure is what an item offers for download, if it may be used.
type enclosure struct {
	url    string
	mime   string
	sha256 string
	length int64
	rank   int
	note   string // a warning
}

// choose returns the enclosures of an item that can be its package, best first,
// or the reason why there are none. An enclosure that is listed twice counts once.
func choose(list []*gofeed.Enclosure, base *url.URL) (found []enclosure, reason error) {
	reason = fmt.Errorf("it has no enclosure")
	for _, e := range list[:min(len(list), maxEnclosures)] {
		u, err := enclosureURL(e.URL, base)
		if err != nil {
			reason = err
			continue
		}
		mime, sum := splitDigest(e.Type)
		c := enclosure{url: u.String(), mime: show.Text(show.Clip(strings.ToLower(mime), 100)), sha256: sum, length: parseLength(e.Length)}
		if c.rank = rank(u, c.mime); c.rank == rankOther {
			reason = fmt.Errorf("its enclosure %s is no package", show.ParsedURL(u))
			continue
		}
		if u.User != nil {
			c.note = fmt.Sprintf("enclosure %s carries a password in its URL", show.ParsedURL(u))
		}
		if !slices.ContainsFunc(found, func(f enclosure) bool { return f.url == c.url }) {
			found = append(found, c)
		}
	}
	slices.SortStableFunc(found, func(a, b enclosure) int { return a.rank - b.rank })
	return found[:min(len(found), 1+maxAlternates)], reason
}

// parseLength reads the length attribute. It is advice only: nonsense means
// unknown (0).
func parseLength(s string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 64)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// enclosureURL makes an enclosure's URL absolute and applies the scheme rules:
// http and https; file only in a feed that is itself a local file. Whoever connects
// decides where they may lead (private addresses, redirects).
func enclosureURL(raw string, base *url.URL) (*url.URL, error) {
	raw = strings.TrimSpace(raw)
	switch {
	case raw == "":
		return nil, fmt.Errorf("its enclosure has no URL")
	case len(raw) > maxURL:
		return nil, fmt.Errorf("its enclosure's URL is longer than %d bytes", maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("its enclosure's URL is malformed")
	}
	u = resolve(base, u)
	u.Fragment, u.RawFragment = "", ""
	u.Scheme = strings.ToLower(u.Scheme)
	switch {
	case u.Scheme == "http" || u.Scheme == "https":
		if u.Hostname() == "" || u.Opaque != "" {
			return nil, fmt.Errorf("its enclosure's URL names no host")
		}
	case u.Scheme == "file":
		if base == nil || base.Scheme != "file" {
			return nil, fmt.Errorf("its enclosure is a file: URL, which only a feed that is a local file may use")
		}
		if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || strings.ContainsRune(u.Path, 0) {
			return nil, fmt.Errorf("its enclosure is a file: URL without an absolute path")
		}
		u.Host = ""
	case u.Scheme == "":
		return nil, fmt.Errorf("its enclosure's URL is relative, to nothing known")
	default:
		return nil, fmt.Errorf("its enclosure's URL has the scheme %q: only http and https are followed", show.Text(show.Clip(u.Scheme, 20)))
	}
	return u, nil
}
