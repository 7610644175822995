package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// options are what `-o` says. The zero value is not useful; see
// defaultOptions.
type options struct {
	Cache      string        // directory of the block cache
	CacheSize  int64         // most bytes it may hold
	CacheFree  int64         // bytes to leave free on its file system
	Memory     int64         // bytes of the memory tier; 0: none
	State      string        // directory of the trust state
	Sidecar    string        // directory or address of sidecars; "": none
	Keyring    string        // file or directory of trusted keys; "": none
	Sig        string        // require, ignore, or "": require with a keyring, else ignore
	Verify     string        // lazy or strict
	Complete   bool          // fetch the rest of an opened image in the background
	Refresh    time.Duration // between looks at the feed; 0: as the feed says
	Hard       bool          // reads wait for an unreachable server
	Timeo      time.Duration // how long they wait when soft
	Stall      time.Duration // how long a silent server is listened to before it is asked anew
	Netrc      string
	TokenFile  string
	CACert     string
	Cert, Key  string
	Proxy      string
	External   bool // images may name other files
	Private    bool // a public feed may name private addresses
	MaxConns   int
	Bandwidth  int64 // bytes per second; 0: no limit
	Profile    bool
	BootReads  string // file with a boot profile to follow; "": none
	PassThru   bool   // complete images are read by the kernel itself
	AllowOther bool
	UID, GID   int
	Umask      uint32
	Metrics    string // where to serve them; "": nowhere
	Hooks      string // directory of programs to run on events; "": none
	OnEvent    string // a program to run on events; "": none
	Log        string // file for the log; "": journal, syslog or stderr
	Debug      bool
}

// defaultOptions are the ones of a mount by this user.
func defaultOptions() options {
	o := options{
		CacheSize: 20 << 30, CacheFree: 1 << 30, Memory: 24 << 20,
		Verify: "lazy", Complete: true, Hard: true, Timeo: 60 * time.Second, Stall: 30 * time.Second,
		MaxConns: 8, Profile: true, PassThru: true, Umask: 0o222,
	}
	if holdsKeys(defaultKeyring) {
		o.Keyring = defaultKeyring
	}
	if os.Geteuid() == 0 {
		o.Cache, o.State = "/var/cache/vmcastfs", "/var/lib/vmcastfs"
		o.AllowOther = true
		return o
	}
	o.UID, o.GID = os.Geteuid(), os.Getegid()
	home := homeDir()
	for _, d := range []struct {
		at         *string
		env, usual string
	}{{&o.Cache, "XDG_CACHE_HOME", ".cache"}, {&o.State, "XDG_STATE_HOME", ".local/state"}} {
		if dir := os.Getenv(d.env); filepath.IsAbs(dir) {
			*d.at = filepath.Join(dir, "vmcastfs")
		} else if home != "" {
			*d.at = filepath.Join(home, d.usual, "vmcastfs")
		}
	}
	return o
}

// homeDir is the user's, or "". mount(8) takes HOME away when it mounts for an
// ordinary user, so the user table is asked as well.
func homeDir() string {
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return home
	}
	u, err := user.LookupId(strconv.Itoa(os.Geteuid()))
	if err != nil || !filepath.IsAbs(u.HomeDir) {
		return ""
	}
	return u.HomeDir
}

// defaultKeyring is where a machine has the keys that all its users trust.
const defaultKeyring = "/etc/vmcastfs/keys"

// holdsKeys tells whether there is something in a keyring; one that cannot be
// read is not taken for an empty one.
func holdsKeys(dir string) bool {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// option is one name that -o knows.
type option struct {
	name  string
	arg   string // what follows "=", for the help; "": a flag
	group string
	help  string
	set   func(o *options, value string) error
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
	const cache, trust, network, access = "Cache", "Trust", "Network", "Access"
	return []option{
		{"cache", "DIR", cache, "directory of the block cache", path(func(o *options) *string { return &o.Cache })},
		{"cache_size", "SIZE", cache, "most it may hold, e.g. 50G; 0 for no limit", size(func(o *options) *int64 { return &o.CacheSize })},
		{"cache_free", "SIZE", cache, "space to leave free on its file system", size(func(o *options) *int64 { return &o.CacheFree })},
		{"memory", "SIZE", cache, "blocks kept in memory as well; 0 for none", size(func(o *options) *int64 { return &o.Memory })},
		{"complete", "on|off", cache, "fetch the rest of an opened image in the background", onOff(func(o *options) *bool { return &o.Complete })},
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
		{"hard", "", network, "reads wait for an unreachable server (default)", flag(func(o *options) *bool { return &o.Hard }, true)},
		{"soft", "", network, "reads fail after timeo", flag(func(o *options) *bool { return &o.Hard }, false)},
		{"timeo", "DURATION", network, "how long soft reads wait", duration(func(o *options) *time.Duration { return &o.Timeo }, time.Second)},
		{"stall", "DURATION", network, "how long a server may be silent before it is asked anew", duration(func(o *options) *time.Duration { return &o.Stall }, time.Second)},
		{"netrc", "FILE", network, "logins and passwords", path(func(o *options) *string { return &o.Netrc })},
		{"token_file", "FILE", network, "bearer token; read again when it changes", path(func(o *options) *string { return &o.TokenFile })},
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
		{"metrics", "unix:PATH|127.0.0.1:PORT", access, "serve metrics for Prometheus to this machine", func(o *options, v string) error {
			_, _, err := metricsAddress(v)
			o.Metrics = v
			return err
		}},
		{"on_event", "FILE", access, "program to run when a release is new, replaced, withdrawn or corrupt", path(func(o *options) *string { return &o.OnEvent })},
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

// parseOptions applies the comma-separated list to o. A backslash keeps the
// next character, so that a value may hold a comma. A sloppy parse, mount(8)'s
// -s, ignores what it does not know. Notes are things worth saying that are no
// errors.
func (o *options) parse(list string, sloppy bool) (notes []string, err error) {
	table := optionTable()
	for _, item := range splitOptions(list) {
		name, value, hasValue := strings.Cut(item, "=")
		name = strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
		i := slices.IndexFunc(table, func(k option) bool { return k.name == name })
		switch {
		case name == "":
		case i >= 0 && table[i].arg == "" && hasValue:
			return notes, usagef("option %q takes no value", name)
		case i >= 0 && table[i].arg != "" && value == "": // a path would be that of the working directory
			return notes, usagef("option %q needs a value: %s=%s", name, name, table[i].arg)
		case i >= 0:
			if err := table[i].set(o, value); err != nil {
				return notes, usagef("option %s=%s: %w", name, scrub([]byte(value)), err)
			}
		case name == "rw":
			notes = append(notes, "rw is asked for, but a feed is always mounted read-only")
		case strings.HasPrefix(name, "x_"), strings.HasPrefix(name, "X_"), slices.Contains(genericOptions, name), sloppy:
		default:
			return notes, usagef("unknown option %q; `vmcastfs mount --help` lists them", name)
		}
	}
	return notes, nil
}

// check refuses combinations that would not do what they seem to.
func (o *options) check() error {
	switch {
	case o.Sig == "require" && o.Keyring == "":
		return usagef("sig=require needs trusted keys: name them with keyring=PATH or put them into %s", defaultKeyring)
	case (o.Cert == "") != (o.Key == ""):
		return usagef("cert=FILE and key=FILE go together")
	case o.Cache == "":
		return usagef("there is no home directory to keep a cache in: name one with cache=DIR")
	}
	if o.Sig == "" {
		o.Sig = "ignore"
		if o.Keyring != "" {
			o.Sig = "require"
		}
	}
	return nil
}

// splitOptions cuts at the commas that are neither preceded by a backslash nor
// between double quotes: by those mount(8) keeps them apart.
func splitOptions(list string) []string {
	var items []string
	var item strings.Builder
	quoted := false
	for i := 0; i < len(list); i++ {
		switch {
		case list[i] == '\\' && i+1 < len(list):
			i++
			item.WriteByte(list[i])
		case list[i] == '"':
			quoted = !quoted
		case list[i] == ',' && !quoted:
			items = append(items, item.String())
			item.Reset()
		default:
			item.WriteByte(list[i])
		}
	}
	return append(items, item.String())
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

// writeOptionHelp lists the options by group.
func writeOptionHelp(w io.Writer) {
	group := ""
	for _, k := range optionTable() {
		if k.group != group {
			group = k.group
			fmt.Fprintf(w, "  %s\n", group)
		}
		name := k.name
		if k.arg != "" {
			name += "=" + k.arg
		}
		fmt.Fprintf(w, "    %-20s %s\n", name, k.help)
	}
}
