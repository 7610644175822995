package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
	"github.com/yuin/goldmark"

	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

const (
	publishedFeed = "vmcast.xml"
	maxNotesFile  = 256 << 10 // bytes; a feed carries 64 KiB of them
)

// publishCall is one call of `vmcastfs publish`.
type publishCall struct {
	base, title, dir string
	ttl              string
}

// publishCommand is `vmcastfs publish --base-url URL [--title T] DIR`.
func publishCommand(e *env) *cobra.Command {
	var c publishCall
	cmd := &cobra.Command{
		Use:   "publish --base-url URL [--title T] DIR",
		Short: "write the feed for a directory of packages",
		Long: `publish writes DIR/vmcast.xml, a feed (RSS 2.0) of the packages in DIR: *.xvm,
*.xvm2, *.ova, *.xva, and disk images: *.img, *.raw, *.qcow2, *.qcow, *.vmdk,
*.vhd, *.vhdx, *.vdi, *.hdd, *.hds, *.iso and *.ami; each of them also
compressed, with .gz, .xz, .zst or .bz2 behind. Serve DIR at the URL given with
any web server that answers ranges. All other files are left out, notes,
signatures, sums and sidecars among them, and so are those whose names begin
with a dot, and what is in directories below. Compressed archives are inflated
to TMPDIR to be checked.

A release is named after its file; its date is the file's the first time it is
published, and stays. Its guid is the one it was packed with (pack --guid),
else its first URL; that stays, too, wherever DIR is served later. Of a disk
image the feed gives the SHA-256, and mounts compare it. Its release notes are
in NAME.html, NAME.md or NAME.txt beside NAME.xvm or NAME.img.xz. Run again,
publish changes only what has changed, and nothing at all if nothing has;
readers see the old feed or the new one, never half of one. A file that is no
package is an error, and the feed stays as it was. A changed package is another
release, under another name: hosts remember what was first seen of each, and
publish warns of it.`,
		Example: `  vmcastfs publish --base-url https://example.org/vm/ /srv/www/vm`,
		Args:    exactArgs(1, "a DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.dir = args[0]
			return e.publish(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&c.base, "base-url", "", "`URL` at which DIR is served")
	cmd.Flags().StringVar(&c.title, "title", "", "`TITLE` of the feed (default: as before, else the name of DIR)")
	cmd.Flags().StringVar(&c.ttl, "ttl", "1h", "`DURATION` after which readers should look again, in whole minutes")
	return cmd
}

func (e *env) publish(ctx context.Context, c publishCall) error {
	base, err := baseURL(c.base)
	if err != nil {
		return err
	}
	ttl, err := parseDuration(c.ttl)
	if err != nil || ttl < time.Minute {
		return usagef("--ttl %s: must be a duration of a minute at least, e.g. 1h", c.ttl)
	}
	path := filepath.Join(c.dir, publishedFeed)
	channel := feed.Channel{Link: base.String(), Self: base.JoinPath(publishedFeed).String(), TTL: ttl, Built: time.Now()}
	was, old, err := earlierFeed(path, channel.Self)
	if err != nil {
		return err
	}
	channel.Title = cmp.Or(c.title, was.Title)
	before := published{was.Built, make(map[string]feed.Release)}
	for _, r := range was.Releases {
		if u, err := url.Parse(r.URL); err == nil {
			before.releases[filepath.Base(u.Path)] = r
		}
	}
	if channel.Title == "" {
		abs, err := filepath.Abs(c.dir)
		if err != nil {
			return withCode(exitSystem, err)
		}
		channel.Title = cmp.Or(show.Text(strings.Trim(filepath.Base(abs), "/.")), "virtual machines")
	}
	if channel.Items, err = e.publishedItems(ctx, c.dir, base, before); err != nil {
		return withCode(exitFailed, err)
	}
	doc, err := channel.Update(old)
	if err != nil {
		return withCode(exitFailed, err)
	}
	if bytes.Equal(doc, old) {
		fmt.Fprintf(e.stdout, "%s  unchanged, %s\n", path, count(len(channel.Items), "release"))
		return nil
	}
	if err := renameio.WriteFile(path, doc, 0o644); err != nil {
		return withCode(exitSystem, err)
	}
	fmt.Fprintf(e.stdout, "%s  %s\n", path, count(len(channel.Items), "release"))
	return nil
}

// published is what an earlier call wrote into the feed.
type published struct {
	at       time.Time               // when that call began
	releases map[string]feed.Release // by file name
}

// earlierFeed is the feed that is at a path, and its bytes; none: it is empty.
func earlierFeed(path, self string) (was *feed.Feed, old []byte, err error) {
	old, err = readAtMost(path, feed.MaxBody)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, withCode(exitSystem, err)
	}
	if len(old) > 0 {
		was, err = feed.Parse(feed.Document{Body: old, FinalURL: self})
		if err != nil && !errors.Is(err, feed.ErrNoReleases) {
			return nil, nil, withCode(exitFailed, fmt.Errorf("%s: %w; move it away to begin anew", path, err))
		}
	}
	return cmp.Or(was, &feed.Feed{}), old, nil
}

// baseURL reads --base-url.
func baseURL(s string) (*url.URL, error) {
	if s == "" {
		return nil, usagef("publish needs --base-url URL: where the packages will be found")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("--base-url %q: must be an http or https URL, without a password, a query or a fragment", s)
	}
	return u.JoinPath("/"), nil
}

// publishedItems are the packages in dir.
func (e *env) publishedItems(ctx context.Context, dir string, base *url.URL, before published) ([]feed.Entry, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var items []feed.Entry
	taken := make(map[string]string) // files by guid
	for _, entry := range entries {
		name := entry.Name()
		stem, ok := feed.PackageStem(name)
		if !ok {
			continue
		}
		path := filepath.Join(dir, name)
		info, err := os.Stat(path) // through a link
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() {
			return nil, fmt.Errorf("%s is no regular file", path)
		}
		address := base.JoinPath(url.PathEscape(name)).String()
		id, bare, err := e.isPackage(ctx, path, address, info.Size())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		was := before.releases[name]
		sum := ""
		if bare { // it has no manifest
			if sum, err = e.digest(ctx, path, info, was, before.at); err != nil {
				return nil, err
			}
		}
		id = cmp.Or(id, was.ID)
		if was.ID == id && id != "" && was.Length > 0 && was.Length != info.Size() {
			fmt.Fprintf(e.stderr, "vmcastfs: warning: %s is not the file that was published under this name before: who has seen that one is told that the release has changed, and refuses it where signatures are required; give a changed release a name (and --guid) of its own\n", path)
		}
		if other := taken[id]; id != "" && other != "" {
			return nil, fmt.Errorf("%s and %s both have the guid %q: pack one of them with another --guid", other, path, id)
		}
		taken[id] = path
		notes, err := releaseNotes(filepath.Join(dir, stem))
		if err != nil {
			return nil, err
		}
		items = append(items, feed.Entry{
			ID: id, Title: stem, URL: address, Length: info.Size(), SHA256: sum,
			Published: info.ModTime(), NotesHTML: notes,
		})
	}
	return items, nil
}

// digest is the SHA-256 of a file. It is that in the feed, was, if the file has not
// been touched since that feed was made at the time given.
func (e *env) digest(ctx context.Context, path string, info fs.FileInfo, was feed.Release, at time.Time) (string, error) {
	if st, ok := info.Sys().(*syscall.Stat_t); ok && was.SHA256 != "" && was.Length == info.Size() && time.Unix(st.Ctim.Unix()).Before(at) {
		return was.SHA256, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	add, done := e.progress("summing "+filepath.Base(path), info.Size())
	defer done()
	h := sha256.New()
	for left := info.Size(); ; {
		n, err := io.CopyN(h, f, 16<<20)
		left -= n
		switch add(n); {
		case err == io.EOF && left != 0:
			return "", fmt.Errorf("%s changes while it is read", path)
		case err == io.EOF:
			return hex.EncodeToString(h.Sum(nil)), nil
		case err != nil:
			return "", err
		case ctx.Err() != nil:
			return "", ctx.Err()
		}
	}
}

// isPackage refuses an archive that is not whole, or what no reader would show,
// and returns the guid that its manifest says it is for, if any. bare: it is a disk
// image, and no archive.
func (e *env) isPackage(ctx context.Context, path, address string, size int64) (guid string, bare bool, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", false, err
	}
	defer f.Close()
	a, err := e.enclosedIn(ctx, &openedArchive{Archive: fileArchive{f}, size: size}, address)
	if err != nil {
		return "", false, err
	}
	defer a.Close()
	if a.bare != "" {
		return "", true, nil
	}
	index, err := xvmpack.Walk(ctx, a, a.size)
	switch {
	case err != nil:
		return "", false, err
	case index.Truncated != "":
		return "", false, fmt.Errorf("it is not whole: %s", index.Truncated)
	}
	small, err := xvm.ReadSmall(ctx, a, index)
	if err != nil {
		return "", false, err
	}
	verdict, err := xvm.Judge(xvm.Evidence{Index: index, Small: small}, xvm.Policy{}, time.Now())
	if err != nil || verdict.Sums == nil {
		return "", false, err
	}
	return verdict.Sums.Release(), false, nil
}

// releaseNotes are those beside a package, as HTML; "" if there are none.
func releaseNotes(stem string) (string, error) {
	for _, ext := range []string{".html", ".md", ".txt"} {
		b, err := readAtMost(stem+ext, maxNotesFile)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		switch ext {
		case ".md":
			var out bytes.Buffer
			if err := goldmark.Convert(b, &out); err != nil {
				return "", fmt.Errorf("%s%s: %w", stem, ext, err)
			}
			return out.String(), nil
		case ".txt":
			return "<pre>" + html.EscapeString(strings.ToValidUTF8(string(b), "\ufffd")) + "</pre>", nil
		}
		return string(b), nil
	}
	return "", nil
}
