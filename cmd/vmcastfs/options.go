package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"vmcastfs/cache/remote"
	"vmcastfs/fs/catalog"
)

// options are what `-o` says. The zero value is not useful; see
// defaultOptions.
type options struct {
	Net  remote.Options // without what newRemote adds
	Feed catalog.Config // without what openSession adds

	Cache      string   // directory of the block cache
	CacheSize  int64    // most bytes it may hold
	CacheFree  int64    // bytes to leave free on its file system
	Memory     int64    // bytes of the memory tier; 0: none
	State      string   // directory of the trust state
	Keyring    string   // file or directory of trusted keys; "": none
	KeysLater  string   // where keys may come that are required from then on; "": nowhere
	Sig        string   // require, ignore, or "": require with a keyring, else ignore
	Mirrors    []string // caches between this rack and the servers
	BootReads  string   // file with a boot profile to follow; "": none
	PassThru   bool     // complete images are read by the kernel itself
	AllowOther bool
	UID, GID   int
	Umask      uint32
	Hooks      string // directory of programs to run on events; "": none
	OnEvent    string // a program to run on events; "": none
	Log        string // file for the log; "": journal, syslog or stderr
	Debug      bool
}

// defaultOptions are the ones of a mount by this user.
func defaultOptions() options {
	o := options{
		Net: remote.Options{Hard: true, Timeo: 60 * time.Second, StallTimeout: 30 * time.Second, MaxConns: 8},
		Feed: catalog.Config{
			KeepCached: true, Prewarm: "boot", PrewarmLimit: 256 << 20, Complete: true, Profile: true,
			Retry: -1, // by the form of the mount
		},
		CacheSize: 20 << 30, CacheFree: 1 << 30, Memory: 24 << 20, PassThru: true, Umask: 0o222,
	}
	if holdsKeys(defaultKeyring) {
		o.Keyring = defaultKeyring
	}
	if os.Geteuid() == 0 {
		o.Cache, o.State = "/var/cache/vmcastfs", "/var/lib/vmcastfs"
		o.Feed.VMs = o.State + "/vms"
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
	if o.State != "" {
		o.Feed.VMs = filepath.Join(o.State, "vms")
	}
	return o
}

// read is parse and check.
func (o *options) read(list string, sloppy bool) error {
	if err := o.parse(list, sloppy); err != nil {
		return err
	}
	return o.check()
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

// holdsKeys tells whether there is something in a keyring; one that cannot be
// read is not taken for an empty one.
func holdsKeys(dir string) bool {
	entries, err := os.ReadDir(dir)
	return len(entries) > 0 || err != nil && !errors.Is(err, fs.ErrNotExist)
}

// parse applies the comma-separated list to o. A backslash keeps the
// next character, so that a value may hold a comma. A sloppy parse, mount(8)'s
// -s, ignores what it does not know.
func (o *options) parse(list string, sloppy bool) error {
	table, last := optionTable(o), ""
	for _, item := range splitOptions(list) {
		name, value, hasValue := strings.Cut(item, "=")
		name = strings.ReplaceAll(strings.TrimSpace(name), "-", "_")
		if last == "mirror" && (strings.HasPrefix(item, "http://") || strings.HasPrefix(item, "https://")) {
			name, value, hasValue = last, item, true // one more
		}
		last = name
		i := slices.IndexFunc(table, func(k option) bool { return k.name == name })
		switch {
		case name == "":
		case i >= 0 && table[i].arg == "" && hasValue:
			return usagef("option %q takes no value", name)
		case i >= 0 && table[i].arg != "" && value == "": // a path would be that of the working directory
			return usagef("option %q needs a value: %s=%s", name, name, table[i].arg)
		case i >= 0:
			if err := table[i].set(value); err != nil {
				return usagef("option %s=%s: %w", name, scrub([]byte(value)), err)
			}
		case strings.HasPrefix(name, "x_"), strings.HasPrefix(name, "X_"), slices.Contains(genericOptions, name), sloppy:
		default:
			return usagef("unknown option %q; `vmcastfs mount --help` lists them", name)
		}
	}
	return nil
}

// check refuses combinations that would not do what they seem to.
func (o *options) check() error {
	switch {
	case o.Sig == "require" && o.Keyring == "":
		return usagef("sig=require needs trusted keys: name them with keyring=PATH or put them into %s", defaultKeyring)
	case (o.Net.Cert == "") != (o.Net.Key == ""):
		return usagef("cert=FILE and key=FILE go together")
	case o.Cache == "":
		return usagef("there is no home directory to keep a cache in: name one with cache=DIR")
	}
	if o.Sig == "" {
		o.Sig = "require"
		if o.Keyring == "" {
			o.Sig, o.KeysLater = "ignore", defaultKeyring
		}
	}
	return nil
}

// noRoom says that the disk of the cache has less room than is to be left free
// on it, so that nothing more is cached; "" if it has enough.
func (o *options) noRoom() string {
	var disk unix.Statfs_t
	for dir := o.Cache; ; dir = filepath.Dir(dir) { // it may still have to be made
		err := unix.Statfs(dir, &disk)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
			return ""
		}
	}
	free := int64(disk.Bavail) * disk.Bsize
	if free >= o.CacheFree {
		return ""
	}
	return fmt.Sprintf("the disk of the cache %s has %s free and cache_free= leaves %s: nothing more is cached",
		o.Cache, humanize.IBytes(uint64(free)), humanize.IBytes(uint64(o.CacheFree)))
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
