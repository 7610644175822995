package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/cache"
	"vmcastfs/fs"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// mountCall is one mount to make.
type mountCall struct {
	feed, dir  string
	list       string // the -o list as given, for the background process
	opts       options
	background bool
	verbose    bool
	sloppy     bool // unknown options are ignored
}

// mountCommand is `vmcastfs mount [-f] [-o OPTS] FEED DIR`.
func mountCommand(e *env) *cobra.Command {
	var lists []string
	var foreground, verbose, sloppy bool
	var help strings.Builder
	writeOptionHelp(&help)
	cmd := &cobra.Command{
		Use:   "mount [-f] [-o OPTIONS] FEED DIR",
		Short: "mount a feed on a directory",
		Long: `mount shows the feed FEED, an http(s) address or a local file, on the
directory DIR. It returns when the mount answers; with -f it stays in the
foreground and ends with the mount. Send it SIGHUP to look at the feed and the
keyring at once.

OPTIONS are as in fstab, and those of mount(8) are accepted: see
mount.vmcastfs(8). Exit status: 0 mounted; 1 wrong usage; 2 the system refused;
4 internal error; 8 interrupted; 32 mount failed.`,
		Example: `  vmcastfs mount https://example.org/vmcast.xml /srv/vmcast
  vmcastfs mount -f -o cache=/var/tmp/vm,verify=strict vmcast.xml /mnt`,
		Args: exactArgs(2, "a FEED and a DIR"),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 1 {
				return nil, cobra.ShellCompDirectiveFilterDirs
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			call := mountCall{feed: args[0], dir: args[1], list: strings.Join(lists, ","), background: !foreground, verbose: verbose, sloppy: sloppy}
			call.opts = defaultOptions()
			if err := call.opts.read(call.list, call.sloppy); err != nil {
				return err
			}
			return e.mount(cmd.Context(), call)
		},
	}
	cmd.Flags().StringArrayVarP(&lists, "options", "o", nil, "mount `OPTIONS`, separated by commas")
	_ = cmd.RegisterFlagCompletionFunc("options", completeOptions)
	cmd.Flags().BoolVarP(&foreground, "foreground", "f", false, "stay in the foreground")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "say more")
	cmd.Flags().BoolVarP(&sloppy, "sloppy", "s", false, "ignore unknown options")
	cmd.SetHelpTemplate(cmd.HelpTemplate() + "\nOptions for -o (- and _ are the same in their names):\n" + help.String())
	return cmd
}

// exactArgs is cobra.ExactArgs with a sentence.
func exactArgs(n int, what string) cobra.PositionalArgs { return someArgs(n, n, what) }

// someArgs is cobra.RangeArgs with a sentence.
func someArgs(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usagef("%s needs %s; usage: %s", cmd.Name(), what, cmd.UseLine())
		}
		return nil
	}
}

// mount makes the mount, here or in a background process.
func (e *env) mount(ctx context.Context, call mountCall) error {
	if call.background {
		return e.mountHere(ctx, call, nil)
	}
	ready := inheritReadiness()
	err := e.mountHere(ctx, call, ready)
	if ready.tell(err) && err != nil {
		return &exitError{codeOf(err), errors.New("")}
	}
	return err
}

func (e *env) mountHere(ctx context.Context, call mountCall, ready *readiness) error {
	feedURL, err := feedArgument(call.feed)
	if err != nil {
		return err
	}
	dir, err := mountDir(call.dir, call.opts)
	if err != nil {
		return err
	}
	if err := notTwice(dir, call.source(feedURL)); err != nil {
		return err
	}
	if call.background {
		if why := call.opts.noRoom(); why != "" { // the second process says it in the log
			fmt.Fprintln(e.stderr, "vmcastfs:", why)
		}
		args := []string{"mount", "-f"}
		if call.list != "" {
			args = append(args, "-o", absoluteOptions(call.list))
		}
		if call.verbose {
			args = append(args, "-v")
		}
		if call.sloppy {
			args = append(args, "-s")
		}
		return startDaemon(ctx, append(args, "--", call.source(feedURL), dir))
	}
	log, err := e.openLog(call.opts, call.verbose, ready.daemon())
	if err != nil {
		return err
	}
	defer log.close()
	return interrupted(ctx, e.serve(ctx, call, feedURL, dir, log, ready))
}

// serve mounts and stays until the mount ends.
func (e *env) serve(ctx context.Context, call mountCall, feedURL, dir string, log *logFile, ready *readiness) error {
	o := call.opts
	if o.Feed.Retry < 0 && ready.daemon() {
		o.Feed.Retry = time.Minute
	}
	began := time.Now()
	o.Feed.Resident = true
	o.Feed.Again = func(err error, pause time.Duration) { // stderr is still that of whoever waits
		left := (o.Feed.Retry - time.Since(began)).Round(time.Second)
		fmt.Fprintf(e.stderr, "vmcastfs: %v; asking again in %s, for another %s (option retry)\n", err, pause.Round(time.Second/2), left)
	}
	s, err := openSession(ctx, feedURL, o, log.Logger)
	if err != nil {
		return err
	}
	defer s.close()
	quiet, over := context.WithCancel(ctx)
	defer over()
	giveMemoryBack(quiet, s.rest)
	boundGarbage(s.cache.Yield)
	with, err := newServices(s, o, feedURL, dir, log.Logger)
	if err != nil {
		return err
	}
	defer with.close()
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP) // before anybody is told that the mount is there
	defer signal.Stop(hup)
	unlock := mountLock(dir)
	defer unlock()
	if err := notTwice(dir, call.source(feedURL)); err != nil {
		return err // it was mounted in the meantime
	}
	server, err := fs.Mount(ctx, s.catalog, fs.Options{
		Dir: dir, Source: call.source(feedURL), AllowOther: o.AllowOther,
		UID: uint32(o.UID), GID: uint32(o.GID), Umask: o.Umask,
		Errors: errorRules(), Logger: log.Logger, Debug: o.Debug,
		NoPassthrough: !o.PassThru,
	})
	unlock()
	if err != nil {
		return withCode(exitMount, err)
	}
	// Pages that the kernel has of a corrupt image must not be read any more.
	defer s.catalog.OnCorrupt(server.Distrust)()
	log.Info("mounted", "feed", s.catalog.Status().Feed.URL, "on", dir)
	if ready.daemon() {
		log.detach()
		_ = os.Chdir("/")
		_, _ = syscall.Setsid()
	}
	ready.tell(nil)
	defer with.start(ctx, s, server, log.Logger)()
	if !ready.daemon() && isTerminal(os.Stderr) {
		fmt.Fprintf(e.stderr, "vmcastfs: mounted on %s; Ctrl-C unmounts\n", dir)
	}
	for {
		select {
		case <-server.Done():
			log.Info("unmounted", "dir", dir)
			return nil
		case <-hup:
			with.lookAtKeys()
			go with.watch.reload(func() error { return s.catalog.Refresh(ctx) })
		case <-ctx.Done():
			if with.watch.stopping() {
				signal.Ignore(syscall.SIGTERM) // systemd sends it twice before it starts the next
			}
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmountGrace)
			err := server.Unmount(end, true)
			cancel()
			if err != nil {
				log.Error("unmount failed", "err", err)
				return withCode(exitMount, err)
			}
			select {
			case <-server.Done():
			default:
				log.Warn("detached; files that are still open are served until they are closed or another signal comes", "dir", dir)
				<-server.Done()
			}
			log.Info("unmounted", "dir", dir)
			return nil
		}
	}
}

// notTwice refuses what is mounted on dir already.
func notTwice(dir, source string) error {
	if there, mounted, err := fs.MountedOn(dir); err == nil && mounted && there == source && !fs.IsStale(dir) {
		return withCode(exitMount, fmt.Errorf("%s is already mounted on %s", source, dir))
	}
	return nil
}

// mountLock has one process at a time look whether its feed is mounted, and mount
// it, of those that mount below one directory. Who cannot have the lock soon goes
// on without: it may be held by anybody.
func mountLock(dir string) (unlock func()) {
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return func() {}
	}
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if syscall.Flock(int(parent.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			break
		}
	}
	return func() { parent.Close() }
}

// unmountGrace is how long a busy mount is waited for at a signal before it is
// detached lazily. TimeoutStopSec of the unit is a little more.
const unmountGrace = 3 * time.Second

// source is what the mount shows as its device: what was asked for, byte for
// byte, since mount -a compares it with fstab.
func (c mountCall) source(feedURL string) string {
	if strings.Contains(c.feed, "://") {
		return c.feed
	}
	return feedURL
}

// errorRules translate what the rooms below return for system calls.
func errorRules() []fs.ErrorRule {
	return []fs.ErrorRule{
		{Err: cache.ErrCorrupt, Errno: syscall.EIO, Corrupt: true},
		{Err: archive.ErrRefused, Errno: syscall.EACCES},
		{Err: archive.ErrReplaced, Errno: syscall.EIO, AtOpen: syscall.ESTALE},
		{Err: seekable.ErrUnsupported, Errno: syscall.EOPNOTSUPP},
		{Err: seekable.ErrLimit, Errno: syscall.EOPNOTSUPP},
		{Err: xvm.ErrNotPackage, Errno: syscall.EIO},
	}
}

// mountDir checks the mount point, and that the cache is not below it: the
// daemon would wait for itself.
func mountDir(arg string, o options) (string, error) {
	if arg == "" {
		return "", usagef("DIR is empty")
	}
	dir, err := filepath.Abs(arg)
	if err != nil {
		return "", usagef("%w", err)
	}
	switch info, err := os.Stat(dir); {
	case fs.IsStale(dir): // a dead mount, which mounting replaces
	case errors.Is(err, os.ErrNotExist):
		return "", withCode(exitMount, fmt.Errorf("mount point %s does not exist: create it with mkdir", dir))
	case err != nil:
		return "", withCode(exitMount, fmt.Errorf("mount point: %w", err))
	case !info.IsDir():
		return "", withCode(exitMount, fmt.Errorf("mount point %s is no directory", dir))
	}
	for _, inner := range []string{o.Cache, o.State} {
		if rel, err := filepath.Rel(dir, inner); inner != "" && err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			return "", usagef("%s lies below the mount point %s and would disappear under it: choose another with -o cache=DIR or -o state=DIR", inner, dir)
		}
	}
	return dir, nil
}

// absoluteOptions is the list with the paths made absolute, for a process that
// is going to leave this directory.
func absoluteOptions(list string) string {
	items := splitOptions(list)
	for i, item := range items {
		name, value, _ := strings.Cut(item, "=")
		for _, k := range optionTable(new(options)) {
			if k.name == strings.ReplaceAll(name, "-", "_") && namesFile(k, value) {
				if abs, err := filepath.Abs(value); err == nil {
					item = name + "=" + abs
				}
			}
		}
		items[i] = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `"`, `\"`).Replace(item)
	}
	return strings.Join(items, ",")
}

// namesFile tells whether the value of an option is a path.
func namesFile(k option, value string) bool {
	switch k.arg {
	case "DIR", "FILE", "PATH":
		return true
	case "URL|DIR":
		return !strings.Contains(value, "://")
	case "on|off|FILE":
		return value != "on" && value != "off"
	}
	return false
}
