package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"vmcastfs/cache"
	"vmcastfs/cache/mirror"
	"vmcastfs/cache/remote"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/kept"
	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// session is everything below the mount: cache, network and the catalog of a
// feed.
type session struct {
	store   *store.Store
	cache   *cache.Cache
	remote  *remote.Client
	catalog *catalog.Catalog
	trust   *trust.State // nil: it cannot be kept
	kept    *kept.Dir    // nil: likewise
	keys    *keyWatch    // nil: there is no keyring
	log     *slog.Logger
}

// openSession wires the rooms together and loads the feed.
func openSession(ctx context.Context, feedURL string, o options, log *slog.Logger) (_ *session, err error) {
	s := &session{log: log}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	keysAre := xvm.KeyringStamp(cmp.Or(o.Keyring, o.KeysLater))
	keyring, err := loadKeyring(o, log)
	if err != nil {
		return nil, err
	}
	var bootReads []xvm.ProfileRead
	if o.BootReads != "" {
		if bootReads, err = readProfile(o.BootReads); err != nil {
			return nil, withCode(exitFailed, err)
		}
	}
	if s.trust, err = openTrust(feedURL, o, log); err != nil {
		return nil, err
	}
	if s.trust != nil {
		if s.kept, err = kept.Open(o.State, feedURL, log); err != nil {
			log.Warn("releases that the feed drops do not outlive this process", "err", err)
		}
	}
	s.store, err = store.Open(store.Options{Dir: o.Cache, Limit: o.CacheSize, MinFree: o.CacheFree, Logger: log})
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("%w; name another directory with -o cache=DIR", err))
	}
	if why := o.noRoom(); why != "" {
		log.Warn(why)
	}
	claimWait := time.Duration(0)
	if !o.Net.Hard {
		claimWait = o.Net.Timeo / 4 // what else a soft read waits for
	}
	memory := heedMemoryLimit()
	s.cache, err = cache.New(cache.Options{Store: s.store, Memory: ofMemory(o.Memory, memory, 10), ClaimWait: claimWait, Logger: log})
	if err != nil {
		return nil, withCode(exitInternal, err)
	}
	if s.remote, err = newRemote(o, log); err != nil {
		return nil, err
	}
	c := o.Feed
	c.FeedURL, c.Store, c.Cache, c.Remote, c.Kept, c.Logger = feedURL, s.store, s.cache, s.remote, s.kept, log
	c.Keyring, c.Trust, c.RequireSigned, c.ProfileReads = keyring, s.trust, o.Sig == "require", bootReads
	c.DecoderMemory = ofMemory(catalog.InflateMemory, memory, 30)
	s.catalog = catalog.New(c)
	if keyring != nil {
		s.keys = &keyWatch{path: o.Keyring, required: o.Sig == "require", set: s.catalog.SetPolicy, log: log, stamp: keysAre}
	} else if o.KeysLater != "" {
		s.keys = &keyWatch{path: o.KeysLater, required: true, none: true, set: s.catalog.SetPolicy, log: log, stamp: keysAre}
	}
	if filepath.IsAbs(o.Feed.Sidecar) {
		if _, err := os.Stat(o.Feed.Sidecar); err != nil {
			log.Warn("sidecars cannot be looked for", "err", err)
		}
	}
	if os.Geteuid() == 0 && updatedbReads(updatedbConf) {
		log.Warn("updatedb reads every release at night: add fuse.vmcastfs to PRUNEFS", "file", updatedbConf)
	}
	if o.Sig == "ignore" {
		log.Warn("signatures are not required: whoever controls the feed or the network decides what is mounted")
	}
	if err := s.catalog.Start(ctx); err != nil {
		return nil, withCode(exitMount, explainFeed(err))
	}
	return s, nil
}

// rest gives back what has not been used for a while, and reports whether that is
// anything.
func (s *session) rest() bool {
	blocks := s.cache.Rest()
	return s.trust != nil && s.trust.Rest() || blocks
}

// loadKeyring loads the trusted keys; nil if none are named.
func loadKeyring(o options, log *slog.Logger) (*xvm.Keyring, error) {
	if o.Keyring == "" {
		return nil, nil
	}
	keyring, err := xvm.LoadKeyring(o.Keyring)
	if errors.Is(err, fs.ErrPermission) && o.Keyring == defaultKeyring && o.Sig == "ignore" {
		log.Warn("signatures are not checked: the keys cannot be read", "err", err)
		return nil, nil
	}
	if errors.Is(err, xvm.ErrNoKeys) && !holdsKeys(o.Keyring) {
		log.Warn("the keyring is an empty directory: until a key is put there, nothing that needs a signature is served", "keyring", o.Keyring)
		return new(xvm.Keyring), nil
	}
	if err != nil {
		return nil, withCode(exitFailed, fmt.Errorf("keyring %s: %w", o.Keyring, err))
	}
	for _, w := range keyring.Warnings() {
		log.Warn("keyring: " + w)
	}
	return keyring, nil
}

// newRemote is the network as the options have it.
func newRemote(o options, log *slog.Logger) (*remote.Client, error) {
	mirrors, err := mirror.Parse(o.Mirrors, log)
	if err != nil {
		return nil, usagef("option mirror: %w", err)
	}
	n := o.Net
	n.Mirrors, n.UserAgent, n.Logger = mirrors, "vmcastfs/"+version(), log
	client, err := remote.NewClient(n)
	return client, withCode(exitFailed, err)
}

// explainFeed adds what to do about a feed that cannot be had.
func explainFeed(err error) error {
	var status *remote.StatusError
	var temporary *remote.TemporaryError
	var network net.Error
	var certificate *tls.CertificateVerificationError
	var file *os.PathError
	hint := "check that this is the address of a VMcast feed"
	switch {
	case errors.As(err, &file), errors.Is(err, remote.ErrSecrets):
		return err // of what an option names: it says all there is to say
	case errors.Is(err, feed.ErrHTML):
		hint = "is there a login page or a proxy between?"
	case errors.Is(err, remote.ErrNotFound):
		hint = "check the address"
	case errors.As(err, &status) && (status.Code == http.StatusUnauthorized || status.Code == http.StatusForbidden):
		hint = "if it needs a login, give one with -o netrc=FILE or -o token_file=FILE"
	case status != nil && status.Code == http.StatusProxyAuthRequired:
		hint = "give a login for the proxy's host with -o netrc=FILE"
	case errors.As(err, &certificate):
		hint = "check the address and the clock; authorities of your own are given with -o cacert=FILE"
	case status != nil, errors.As(err, &temporary), errors.As(err, &network):
		hint = "check the address and the network (there is no earlier copy of this feed to show)"
	}
	return fmt.Errorf("%w; %s", err, hint)
}

// close ends everything, in the order of dependence.
func (s *session) close() {
	if s.catalog != nil {
		s.catalog.Close()
	}
	if s.cache != nil {
		s.cache.Close()
	}
	if s.remote != nil {
		s.remote.Close()
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("cache not closed cleanly", "err", err)
		}
	}
	if s.trust != nil {
		_ = s.trust.Close() // its error has been logged
	}
	_ = s.kept.Close()
}

// feedArgument makes a FEED argument independent of the working directory.
// Credentials in it are refused: they would show in /proc/mounts and ps.
func feedArgument(arg string) (string, error) {
	if arg == "" {
		return "", usagef("FEED is empty: a feed is an http or https address, or a local file")
	}
	u, err := url.Parse(arg)
	if scheme, _, _ := strings.Cut(strings.ToLower(arg), "://"); err != nil && (scheme == "http" || scheme == "https") {
		if wrong := new(url.Error); errors.As(err, &wrong) {
			err = wrong.Err // without the address, which may hold a password
		}
		return "", usagef("FEED is no valid address: %w", err)
	}
	if err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		if u.User != nil {
			return "", usagef("the feed's address must not hold a password, everybody could see it in /proc/mounts: use -o netrc=FILE or -o token_file=FILE")
		}
		if u.Host == "" {
			return "", usagef("%q names no server", arg)
		}
		return arg, nil
	}
	if err == nil && u.Scheme == "file" {
		if u.Path == "" || u.Host != "" && u.Host != "localhost" {
			return "", usagef("%q names no local file: write file:///PATH, or the path alone", arg)
		}
		arg = u.Path
	} else if err == nil && len(u.Scheme) > 1 {
		return "", usagef("cannot fetch %q: a feed is an http or https address, or a local file", arg)
	}
	path, err := filepath.Abs(arg)
	if err != nil {
		return "", usagef("%w", err)
	}
	if _, err := os.Stat(path); err != nil {
		return "", withCode(exitMount, fmt.Errorf("feed %s: %w; a feed is an http or https address, or a local file", arg, err))
	}
	return path, nil
}
