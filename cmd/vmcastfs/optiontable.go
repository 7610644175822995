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
	set   func(o *options, value string) error
}

// usage is the option with what follows it.
func (k option) usage() string {
	if k.arg == "" {
		return k.name
	}
	return k.name + "=" + k.arg
}

// optionTable is every option of ours, in the order of the help text.
func optionTable() []option {
	path := func(at func(*options) *string) func(*options, string) error {
		return func(o *options, v string) error {
			abs, err := filepath.Abs(v) // before the working directory is given up
			*at(o) = abs
			return err
		}
	}
	size := func(at func(*options) *int64) func(*options, string) error {
		return func(o *options, v string) error {
			n, err := parseSize(v)
			*at(o) = n
			return err
		}
	}
	duration := func(at func(*options) *time.Duration, least time.Duration) func(*options, string) error {
		return func(o *options, v string) error {
			d, err := parseDuration(v)
			if err == nil && d < least {
				err = fmt.Errorf("must be at least %s", least)
			}
			*at(o) = d
			return err
		}
	}
	flag := func(at func(*options) *bool, value bool) func(*options, string) error {
		return func(o *options, v string) error { *at(o) = value; return nil }
	}
	onOff := func(at func(*options) *bool) func(*options, string) error {
		return func(o *options, v string) error {
			if v != "on" && v != "off" {
				return errors.New("must be on or off")
			}
			*at(o) = v == "on"
			return nil
		}
	}
	choice := func(at func(*options) *string, values ...string) func(*options, string) error {
		return func(o *options, v string) error {
			if !slices.Contains(values, v) {
				return fmt.Errorf("must be %s", strings.Join(values, " or "))
			}
			*at(o) = v
			return nil
		}
	}
	number := func(at func(*options) *int, least, most int) func(*options, string) error {
		return func(o *options, v string) error {
			n, err := strconv.Atoi(v)
			if err != nil || n < least || n > most {
				return fmt.Errorf("must be a number from %d to %d", least, most)
			}
			*at(o) = n
			return nil
		}
	}
	http := func(o *options, v string) error {
		_, _, err := httpAddress(v)
		o.HTTP = v
		return err
	}
	const cache, trust, network, access = "Cache", "Trust", "Network", "Access"
	return []option{
		{"cache", "DIR", cache, "directory of the block cache", path(func(o *options) *string { return &o.Cache })},
		{"cache_size", "SIZE", cache, "most it may hold, e.g. 50G; 0 for no limit", size(func(o *options) *int64 { return &o.CacheSize })},
		{"cache_free", "SIZE", cache, "space to leave free on its file system", size(func(o *options) *int64 { return &o.CacheFree })},
		{"memory", "SIZE", cache, "blocks kept in memory as well; 0 for none", size(func(o *options) *int64 { return &o.Memory })},
		{"vms", "DIR", cache, "directory of machines (vmcastfs vm): what they lie on stays", path(func(o *options) *string { return &o.VMs })},
		{"complete", "on|off", cache, "fetch the rest of an opened image in the background", onOff(func(o *options) *bool { return &o.Complete })},
		{"keep", "cached|feed", cache, "what the feed drops stays while it is cached, or only in use, pinned or the base of a machine", choice(func(o *options) *string { return &o.Keep }, "cached", "feed")},
		{"prewarm", "boot|all|off", cache, "fetch of a new latest release what its boot will read, or all of it, before anyone asks", choice(func(o *options) *string { return &o.Prewarm }, "boot", "all", "off")},
		{"prewarm_limit", "SIZE", cache, "most that is fetched for a boot, of one release", size(func(o *options) *int64 { return &o.PrewarmLimit })},
		{"profile", "on|off|FILE", cache, "record which blocks a boot reads and prefetch by it, or by the one in FILE", func(o *options, v string) (err error) {
			if o.Profile, o.BootReads = v != "off", ""; v != "on" && v != "off" {
				o.BootReads, err = filepath.Abs(v)
			}
			return err
		}},
		{"passthrough", "on|off", cache, "let the kernel read complete images by itself where it can", onOff(func(o *options) *bool { return &o.PassThru })},
		{"verify", "lazy|strict", trust, "check a whole image behind the first read, or before it", choice(func(o *options) *string { return &o.Verify }, "lazy", "strict")},
		{"keyring", "PATH", trust, "file or directory of trusted OpenPGP keys (default: " + defaultKeyring + ", if it holds any)", path(func(o *options) *string { return &o.Keyring })},
		{"sig", "require|ignore", trust, "refuse what no trusted key has signed (default with a keyring)", choice(func(o *options) *string { return &o.Sig }, "require", "ignore")},
		{"sidecar", "URL|DIR", trust, "where vmcastfs index has put block lists for packages that have none", func(o *options, v string) (err error) {
			u, err := url.Parse(v)
			switch {
			case !strings.Contains(v, "://"):
				o.Sidecar, err = filepath.Abs(v)
			case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
				err = errors.New("must be a directory, or an http or https address")
			case u.User != nil:
				err = errors.New("must not hold a password: use netrc=FILE or token_file=FILE")
			default:
				o.Sidecar = v
			}
			return err
		}},
		{"allow_external", "", trust, "serve images that name other files (backing files, extents)", flag(func(o *options) *bool { return &o.External }, true)},
		{"state", "DIR", trust, "directory of the trust state", path(func(o *options) *string { return &o.State })},
		{"refresh", "DURATION", network, "between looks at the feed (default: as the feed says)", duration(func(o *options) *time.Duration { return &o.Refresh }, time.Second)},
		{"hard", "", network, "reads wait until the server gives the archive again (default)", flag(func(o *options) *bool { return &o.Hard }, true)},
		{"soft", "", network, "reads fail after timeo", flag(func(o *options) *bool { return &o.Hard }, false)},
		{"retry", "DURATION", network, "how long a first mount asks again for a feed that cannot be had just now; default 1m, in the foreground 0", duration(func(o *options) *time.Duration { return &o.Retry }, 0)},
		{"timeo", "DURATION", network, "how long soft reads wait", duration(func(o *options) *time.Duration { return &o.Timeo }, time.Second)},
		{"stall", "DURATION", network, "how long a server may be silent before it is asked anew", duration(func(o *options) *time.Duration { return &o.Stall }, time.Second)},
		{"netrc", "FILE", network, "logins and passwords", path(func(o *options) *string { return &o.Netrc })},
		{"token_file", "FILE", network, "bearer token; read again when it changes", path(func(o *options) *string { return &o.TokenFile })},
		{"header_file", "FILE", network, "request headers, as lines of Name: value; read again when it changes", path(func(o *options) *string { return &o.HeaderFile })},
		{"cacert", "FILE", network, "certificates to trust instead of the system's", path(func(o *options) *string { return &o.CACert })},
		{"cert", "FILE", network, "client certificate", path(func(o *options) *string { return &o.Cert })},
		{"key", "FILE", network, "its private key", path(func(o *options) *string { return &o.Key })},
		{"proxy", "URL", network, "HTTP proxy (default: HTTP_PROXY, HTTPS_PROXY, NO_PROXY); its login is in netrc", func(o *options, v string) error {
			if u, err := url.Parse(v); err == nil && u.User != nil {
				return errors.New("must not hold a password, everybody could see it in ps: use netrc=FILE, with an entry for the proxy's host")
			}
			o.Proxy = v
			return nil
		}},
		{"mirror", "URL[,URL...]", network, "HTTP caches that are asked for what block sums prove; URL#credentials for one that may see logins", func(o *options, v string) error {
			_, err := mirror.CheckURL(v)
			o.Mirrors = append(o.Mirrors, v)
			return err
		}},
		{"allow_private", "", network, "let a public feed name private addresses", flag(func(o *options) *bool { return &o.Private }, true)},
		{"max_conns", "N", network, "connections to one server", number(func(o *options) *int { return &o.MaxConns }, 1, 64)},
		{"bwlimit", "RATE", network, "bytes per second, e.g. 10M; 0 for no limit", size(func(o *options) *int64 { return &o.Bandwidth })},
		{"allow_other", "", access, "other users may read (default for root)", flag(func(o *options) *bool { return &o.AllowOther }, true)},
		{"uid", "N", access, "owner of the files", number(func(o *options) *int { return &o.UID }, 0, 1<<31-2)},
		{"gid", "N", access, "group of the files", number(func(o *options) *int { return &o.GID }, 0, 1<<31-2)},
		{"umask", "OCTAL", access, "permission bits to take away", func(o *options, v string) error {
			n, err := strconv.ParseUint(v, 8, 32)
			if err != nil || n > 0o777 {
				return errors.New("must be octal, e.g. 027")
			}
			o.Umask = uint32(n) | 0o222
			return nil
		}},
		{"http", "unix:PATH|127.0.0.1:PORT", access, "serve a page for people, and metrics for Prometheus, to this machine", http},
		{"metrics", "unix:PATH|127.0.0.1:PORT", access, "the older name of http=", http},
		{"on_event", "FILE", access, "program to run when a release is new, replaced, withdrawn, corrupt or refused", path(func(o *options) *string { return &o.OnEvent })},
		{"hooks", "DIR", access, "... and all programs in a directory", path(func(o *options) *string { return &o.Hooks })},
		{"log", "FILE", access, "append the log to a file", path(func(o *options) *string { return &o.Log })},
		{"debug", "", access, "log every FUSE request", flag(func(o *options) *bool { return &o.Debug }, true)},
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
	for _, k := range optionTable() {
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
