package main

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"vmcastfs/cache/mirror"
)

// defaultKeyring is where a machine has the keys that all its users trust.
const defaultKeyring = "/etc/vmcastfs/keys"

// option is one name that -o knows.
type option struct {
	name  string
	arg   string // what follows "=", for the help; "": a flag
	group string
	help  string
	set   func(value string) error
}

// usage is the option with what follows it.
func (k option) usage() string {
	if k.arg == "" {
		return k.name
	}
	return k.name + "=" + k.arg
}

// optionTable is every option of ours, in the order of the help text. They set o.
func optionTable(o *options) []option {
	path := func(at *string) func(string) error {
		return func(v string) (err error) {
			*at, err = filepath.Abs(v) // before the working directory is given up
			return err
		}
	}
	size := func(at *int64) func(string) error {
		return func(v string) (err error) {
			*at, err = parseSize(v)
			return err
		}
	}
	duration := func(at *time.Duration, least time.Duration) func(string) error {
		return func(v string) (err error) {
			if *at, err = parseDuration(v); err == nil && *at < least {
				err = fmt.Errorf("must be at least %s", least)
			}
			return err
		}
	}
	flag := func(at *bool, value bool) func(string) error {
		return func(string) error { *at = value; return nil }
	}
	choice := func(at *string, values ...string) func(string) error {
		return func(v string) error {
			if !slices.Contains(values, v) {
				return fmt.Errorf("must be %s", strings.Join(values, " or "))
			}
			*at = v
			return nil
		}
	}
	either := func(at *bool, yes string, words ...string) func(string) error {
		return func(v string) error {
			word := ""
			err := choice(&word, words...)(v)
			*at = word == yes
			return err
		}
	}
	onOff := func(at *bool) func(string) error { return either(at, "on", "on", "off") }
	number := func(at *int, least, most int) func(string) error {
		return func(v string) (err error) {
			if *at, err = strconv.Atoi(v); err != nil || *at < least || *at > most {
				err = fmt.Errorf("must be a number from %d to %d", least, most)
			}
			return err
		}
	}
	http := func(v string) (err error) {
		_, _, err = httpAddress(v)
		o.Feed.HTTP = v
		return err
	}
	const cache, trust, network, access = "Cache", "Trust", "Network", "Access"
	return []option{
		{"cache", "DIR", cache, "directory of the block cache", path(&o.Cache)},
		{"cache_size", "SIZE", cache, "most it may hold, e.g. 50G; 0 for no limit", size(&o.CacheSize)},
		{"cache_free", "SIZE", cache, "space to leave free on its file system", size(&o.CacheFree)},
		{"memory", "SIZE", cache, "blocks kept in memory as well; 0 for none", size(&o.Memory)},
		{"vms", "DIR", cache, "directory of machines (vmcastfs vm): what they lie on stays", path(&o.Feed.VMs)},
		{"complete", "on|off", cache, "fetch the rest of an opened image in the background", onOff(&o.Feed.Complete)},
		{"keep", "cached|feed", cache, "what the feed drops stays while it is cached, or only in use, pinned or the base of a machine", either(&o.Feed.KeepCached, "cached", "cached", "feed")},
		{"prewarm", "boot|all|off", cache, "fetch of a new latest release what its boot will read, or all of it, before anyone asks", choice(&o.Feed.Prewarm, "boot", "all", "off")},
		{"prewarm_limit", "SIZE", cache, "most that is fetched for a boot, of one release", size(&o.Feed.PrewarmLimit)},
		{"profile", "on|off|FILE", cache, "record which blocks a boot reads and prefetch by it, or by the one in FILE", func(v string) (err error) {
			if o.Feed.Profile, o.BootReads = v != "off", ""; v != "on" && v != "off" {
				o.BootReads, err = filepath.Abs(v)
			}
			return err
		}},
		{"passthrough", "on|off", cache, "let the kernel read complete images by itself where it can", onOff(&o.PassThru)},
		{"verify", "lazy|strict", trust, "check a whole image behind the first read, or before it", either(&o.Feed.Strict, "strict", "lazy", "strict")},
		{"keyring", "PATH", trust, "file or directory of trusted OpenPGP keys (default: " + defaultKeyring + ", if it holds any)", path(&o.Keyring)},
		{"sig", "require|ignore", trust, "refuse what no trusted key has signed (default with a keyring)", choice(&o.Sig, "require", "ignore")},
		{"sidecar", "URL|DIR", trust, "where vmcastfs index has put block lists for packages that have none", func(v string) (err error) {
			u, err := url.Parse(v)
			switch {
			case !strings.Contains(v, "://"):
				o.Feed.Sidecar, err = filepath.Abs(v)
			case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
				err = errors.New("must be a directory, or an http or https address")
			case u.User != nil:
				err = errors.New("must not hold a password: use netrc=FILE or token_file=FILE")
			default:
				o.Feed.Sidecar = v
			}
			return err
		}},
		{"allow_external", "", trust, "serve images that name other files (backing files, extents)", flag(&o.Feed.AllowExternal, true)},
		{"state", "DIR", trust, "directory of the trust state", path(&o.State)},
		{"refresh", "DURATION", network, "between looks at the feed (default: as the feed says)", duration(&o.Feed.Refresh, time.Second)},
		{"hard", "", network, "reads wait until the server gives the archive again (default)", flag(&o.Net.Hard, true)},
		{"soft", "", network, "reads fail after timeo", flag(&o.Net.Hard, false)},
		{"retry", "DURATION", network, "how long a first mount asks again for a feed that cannot be had just now; default 1m, in the foreground 0", duration(&o.Feed.Retry, 0)},
		{"timeo", "DURATION", network, "how long soft reads wait", duration(&o.Net.Timeo, time.Second)},
		{"stall", "DURATION", network, "how long a server may be silent before it is asked anew", duration(&o.Net.StallTimeout, time.Second)},
		{"netrc", "FILE", network, "logins and passwords", path(&o.Net.Netrc)},
		{"token_file", "FILE", network, "bearer token; read again when it changes", path(&o.Net.TokenFile)},
		{"header_file", "FILE", network, "request headers, as lines of Name: value; read again when it changes", path(&o.Net.HeaderFile)},
		{"cacert", "FILE", network, "certificates to trust instead of the system's", path(&o.Net.CACert)},
		{"cert", "FILE", network, "client certificate", path(&o.Net.Cert)},
		{"key", "FILE", network, "its private key", path(&o.Net.Key)},
		{"proxy", "URL", network, "HTTP proxy (default: HTTP_PROXY, HTTPS_PROXY, NO_PROXY); its login is in netrc", func(v string) error {
			if u, err := url.Parse(v); err == nil && u.User != nil {
				return errors.New("must not hold a password, everybody could see it in ps: use netrc=FILE, with an entry for the proxy's host")
			}
			o.Net.Proxy = v
			return nil
		}},
		{"mirror", "URL[,URL...]", network, "HTTP caches that are asked for what block sums prove; URL#credentials for one that may see logins", func(v string) error {
			_, err := mirror.CheckURL(v)
			o.Mirrors = append(o.Mirrors, v)
			return err
		}},
		{"allow_private", "", network, "let a public feed name private addresses", flag(&o.Net.AllowPrivate, true)},
		{"max_conns", "N", network, "connections to one server", number(&o.Net.MaxConns, 1, 64)},
		{"bwlimit", "RATE", network, "bytes per second, e.g. 10M; 0 for no limit", size(&o.Net.Bandwidth)},
		{"allow_other", "", access, "other users may read (default for root)", flag(&o.AllowOther, true)},
		{"uid", "N", access, "owner of the files", number(&o.UID, 0, 1<<31-2)},
		{"gid", "N", access, "group of the files", number(&o.GID, 0, 1<<31-2)},
		{"umask", "OCTAL", access, "permission bits to take away", func(v string) error {
			n, err := strconv.ParseUint(v, 8, 32)
			if err != nil || n > 0o777 {
				return errors.New("must be octal, e.g. 027")
			}
			o.Umask = uint32(n) | 0o222
			return nil
		}},
		{"http", "unix:PATH|127.0.0.1:PORT", access, "serve a page for people, and metrics for Prometheus, to this machine", http},
		{"metrics", "unix:PATH|127.0.0.1:PORT", access, "the older name of http=", http},
		{"on_event", "FILE", access, "program to run when a release is new, replaced, withdrawn, corrupt or refused", path(&o.OnEvent)},
		{"hooks", "DIR", access, "... and all programs in a directory", path(&o.Hooks)},
		{"log", "FILE", access, "append the log to a file", path(&o.Log)},
		{"debug", "", access, "log every FUSE request", flag(&o.Debug, true)},
	}
}

// genericOptions are those of mount(8), fstab(5) and FUSE that change nothing
// here: the mount is always read-only, nosuid, nodev, noexec and checks
// permissions.
var genericOptions = []string{
	"ro", "rw", "defaults", "default_permissions", "_netdev", "netdev", "nofail", "auto", "noauto",
	"user", "nouser", "users", "owner", "group", "suid", "nosuid", "dev", "nodev", "exec", "noexec",
	"atime", "noatime", "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "nostrictatime",
	"lazytime", "nolazytime", "iversion", "noiversion", "mand", "nomand", "sync", "async", "dirsync",
	"silent", "loud", "fsname", "subtype", "comment", "auto_unmount", "context", "fscontext", "defcontext", "rootcontext",
	"max_read", "nonempty", "remount", "blkdev", "symfollow", "nosymfollow",
}

// helpWidth is how wide the help texts are.
const helpWidth = 80

// writeOptionHelp lists the options by group.
func writeOptionHelp(w io.Writer) {
	group := ""
	for _, k := range optionTable(new(options)) {
		if k.group != group {
			group = k.group
			fmt.Fprintf(w, "  %s\n", group)
		}
		label := fmt.Sprintf("    %-20s ", k.usage())
		if len(k.usage()) > 20 {
			fmt.Fprintln(w, label)
			label = strings.Repeat(" ", 25)
		}
		_, _ = io.WriteString(w, wrapped(label, k.help, helpWidth))
	}
}

// parseSize reads 4096, 10G, 1.5GiB: powers of 1024, as mount options and
// QEMU have it.
func parseSize(s string) (int64, error) {
	t := strings.TrimSpace(s)
	if n := len(t); n > 0 && strings.ContainsRune("kKmMgGtT", rune(t[n-1])) {
		t += "iB"
	}
	n, err := humanize.ParseBytes(t)
	if err != nil || n > 1<<62 {
		return 0, errors.New("must be a size, e.g. 512M or 20G")
	}
	return int64(n), nil
}

// parseDuration reads Go's form, and bare seconds.
func parseDuration(s string) (time.Duration, error) {
	if n, err := strconv.ParseInt(s, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, errors.New("must be a duration, e.g. 30s or 10m")
	}
	return d, nil
}
