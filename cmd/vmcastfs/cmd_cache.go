package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
)

// cacheFile is a cached file as `cache list --json` prints it.
type cacheFile struct {
	Key    string    `json:"key"`
	Name   string    `json:"name"` // release and file, as they were called when last opened
	Size   int64     `json:"size"` // -1: not known yet
	Bytes  int64     `json:"bytes"`
	Disk   int64     `json:"disk_bytes"`
	State  string    `json:"state"`
	Note   string    `json:"note,omitempty"`
	Used   time.Time `json:"used"`
	InUse  bool      `json:"in_use"`
	Pinned bool      `json:"pinned"`
	Held   string    `json:"held,omitempty"` // never (a machine or a pinned image needs it), or last (its release is withdrawn): when it is evicted
	Error  string    `json:"error,omitempty"`
}

// cacheKeeper looks after the cache directory for the subcommands of `vmcastfs cache`.
type cacheKeeper struct{ *env }

// cacheCommand is `vmcastfs cache …`.
func cacheCommand(e *env) *cobra.Command {
	keeper := cacheKeeper{e}
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "look after the cache directory",
		Long: `cache looks after the cache directory, also while feeds are mounted on it.
NAME is a release, RELEASE/FILE, or the beginning of a key, as list shows them.`,
	}
	dir := addDirectory(cmd, "cache", func(o *options) *string { return &o.Cache })
	open := func() (*store.Store, error) {
		path, err := dir()
		if err != nil {
			return nil, err
		}
		return e.openCache(path)
	}

	// with runs fn on the cache, which must be there already.
	with := func(fn func(ctx context.Context, s *store.Store, args []string) error) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			s, err := open()
			if err != nil {
				return err
			}
			return errors.Join(fn(cmd.Context(), s, args), s.Close())
		}
	}
	names := someArgs(1, math.MaxInt, "a NAME; `vmcastfs cache list` shows them")

	var asJSON bool
	list := &cobra.Command{
		Use: "list [--json]", Short: "show the cached files and what is pinned, last used first", Args: cobra.NoArgs,
		RunE: with(func(_ context.Context, s *store.Store, _ []string) error { return keeper.list(s, asJSON) }),
	}
	list.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")

	prune := &cobra.Command{
		Use: "prune [SIZE]", Short: "remove what was used least recently until SIZE is left",
		Long: `prune removes the files that were used least recently until the cache takes SIZE
at most. The default is 0: all that is not in use or pinned.`,
		Args: cobra.MaximumNArgs(1),
		RunE: with(func(_ context.Context, s *store.Store, args []string) error { return keeper.prune(s, args) }),
	}
	var force bool
	remove := &cobra.Command{
		Use: "remove {NAME|DIR/RELEASE[/IMAGE]}...", Short: "remove files from the cache", Args: names,
		Long: `remove removes files from the cache. A release that the feed has dropped leaves
the tree with its images. What is in use stays; so does what is pinned or the
base of a machine, but for --force.`,
		Example: `  vmcastfs cache remove /srv/vmcast/debian-12.4
  vmcastfs cache remove debian-12.4/root.img`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return keeper.remove(cmd.Context(), args, open, force)
		},
	}
	remove.Flags().BoolVar(&force, "force", false, "also what is pinned or the base of a machine")
	verify := &cobra.Command{
		Use: "verify", Short: "read every cached block and drop what is damaged",
		Long: `verify reads every cached block, compares it with its checksum, and drops what
is damaged: it is fetched again when it is needed, and of an image that a guest
reads by passthrough within seconds. The exit status is 1 if there was any. It
goes well with mounts in use; "systemctl enable --now vmcastfs-verify.timer"
runs it every week.`,
		Args: cobra.NoArgs,
		RunE: with(func(ctx context.Context, s *store.Store, _ []string) error { return keeper.verify(ctx, s) }),
	}
	pinning := func(on bool) func(*cobra.Command, []string) error {
		return func(cmd *cobra.Command, args []string) error {
			return keeper.pin(cmd.Context(), args, on, open)
		}
	}
	pin := &cobra.Command{
		Use: "pin {NAME|DIR/RELEASE[/IMAGE]}...", Short: "never evict these files", Args: names,
		Long: `pin keeps files in the cache, whole, whatever else needs room; they count
towards its size. A mount fetches what is missing of them in the background;
"vmcastfs status" shows how far that is. Their release keeps its path when the
feed drops it. What has not been cached yet is named by its path in a mount.
More than the cache may hold is refused.`,
		Example: `  vmcastfs cache pin /srv/vmcast/latest
  vmcastfs cache pin debian-12.5/root.img`,
		RunE: pinning(true),
	}
	unpin := &cobra.Command{
		Use: "unpin {NAME|DIR/RELEASE[/IMAGE]}...", Short: "let these files be evicted again", Args: names,
		RunE: pinning(false),
	}
	remove.ValidArgsFunction = completeCached(open, func(store.Info) bool { return true })
	pin.ValidArgsFunction = completeCached(open, func(i store.Info) bool { return !i.Kept })
	unpin.ValidArgsFunction = completeCached(open, func(i store.Info) bool { return i.Kept })
	return group(cmd, list, prune, remove, verify, pin, unpin)
}

// openCache opens a cache that exists; it makes none.
func (e *env) openCache(dir string) (*store.Store, error) {
	if dir == "" {
		return nil, usagef("there is no home directory to find the cache in: name it with --cache DIR")
	}
	if _, err := os.Stat(filepath.Join(dir, "version")); errors.Is(err, os.ErrNotExist) {
		return nil, withCode(exitFailed, fmt.Errorf("there is no cache in %s: name it with --cache DIR", dir))
	}
	s, err := store.Open(store.Options{Dir: dir, Logger: e.quietLog()})
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("cache directory %s: %w", dir, err))
	}
	return s, nil
}

func cachedName(i store.Info) string {
	return show.Text(cmp.Or(i.Label, string(i.Key)))
}

// cachedFiles are the cached files, the most recently used first, and then what
// is pinned and not cached yet.
func cachedFiles(s *store.Store) ([]store.Info, error) {
	infos, err := s.List()
	if err != nil {
		return nil, err
	}
	slices.Reverse(infos)
	pins := s.Kept()
	for _, i := range infos {
		delete(pins, i.Key)
	}
	for _, key := range slices.Sorted(maps.Keys(pins)) {
		infos = append(infos, store.Info{Key: key, Label: s.Label(key), Size: pins[key], Kept: true})
	}
	return infos, nil
}

// cachedState is "absent" for what is pinned and not cached yet.
func cachedState(i store.Info) string {
	if i.Used.IsZero() && i.Err == nil && i.Kept && i.BlockSize == 0 {
		return "absent"
	}
	return i.State.String()
}

func (e cacheKeeper) list(s *store.Store, asJSON bool) error {
	infos, err := cachedFiles(s)
	if err != nil {
		return withCode(exitSystem, err)
	}
	if asJSON {
		files := make([]cacheFile, len(infos))
		held := map[store.Hold]string{store.EvictNever: "never", store.EvictLast: "last"}
		for n, i := range infos {
			files[n] = cacheFile{
				Key: string(i.Key), Name: i.Label, Size: i.Size, Bytes: i.Bytes, Disk: i.Disk,
				State: cachedState(i), Note: i.Note, Used: i.Used, InUse: i.InUse, Pinned: i.Kept, Held: held[i.Hold],
			}
			if i.Err != nil {
				files[n].Error = i.Err.Error()
			}
		}
		return e.printJSON(files)
	}
	var t table
	t.row("NAME", "KEY", "STATE", "LOCAL", "SIZE", "DISK", "USED")
	total, now := int64(0), time.Now()
	for _, i := range infos {
		state, local, size, used := cachedState(i), "-", "?", "-"
		if i.InUse {
			state += ", in use"
		}
		switch {
		case i.Kept:
			state += ", pinned"
		case i.Hold == store.EvictNever:
			state += ", needed"
		case i.Hold == store.EvictLast:
			state += ", withdrawn"
		}
		if i.Size >= 0 {
			size = humanize.IBytes(uint64(i.Size))
			if i.Size > 0 {
				local = fmt.Sprintf("%d%%", 100*i.Bytes/i.Size)
			}
		}
		if !i.Used.IsZero() {
			used = strings.TrimSpace(ago(&i.Used, now))
		}
		total += i.Disk
		t.row(dash(show.Text(i.Label)), fmt.Sprintf("%.8s", i.Key), state, local, size, humanize.IBytes(uint64(i.Disk)), used)
		if i.Err != nil {
			t.note(show.Text(i.Err.Error()))
		}
	}
	if err := t.print(e.stdout, widthOf(e.stdout)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(e.stdout, "%s, %s on disk\n", count(len(infos), "file"), humanize.IBytes(uint64(total)))
	return err
}

func (e cacheKeeper) prune(s *store.Store, args []string) error {
	target := int64(0)
	if len(args) == 1 {
		var err error
		if target, err = parseSize(args[0]); err != nil {
			return usagef("%s: %w", args[0], err)
		}
	}
	freed, err := s.Prune(target)
	if err != nil {
		return withCode(exitSystem, err)
	}
	left := s.Stats().Bytes
	fmt.Fprintf(e.stdout, "freed %s, %s left\n", humanize.IBytes(uint64(max(freed, 0))), humanize.IBytes(uint64(left)))
	if left > target {
		fmt.Fprintln(e.stderr, "vmcastfs: what is in use or pinned stays")
	}
	return nil
}

func (e cacheKeeper) verify(ctx context.Context, s *store.Store) error {
	infos, err := s.List()
	if err != nil {
		return withCode(exitSystem, err)
	}
	var total, told int64
	for _, i := range infos {
		total += i.Bytes
	}
	add, done := e.progress("verify", total)
	p, err := s.Verify(ctx, func(p store.Progress) {
		add(p.BytesDone - told)
		told = p.BytesDone
	})
	done()
	if ctx.Err() != nil {
		return withCode(exitInterrupted, err)
	}
	if err != nil {
		return withCode(exitSystem, err)
	}
	fmt.Fprintf(e.stdout, "%s, %s, %d damaged\n", count(p.FilesDone, "file"), count(int(p.BlocksDone), "block"), p.Damaged)
	if p.Damaged > 0 || p.Failed > 0 {
		return withCode(exitFailed, fmt.Errorf("%d damaged blocks were dropped, %d files cannot be read", p.Damaged, p.Failed))
	}
	return nil
}

// eachCached runs fn on all files that the names mean; each name means one at
// least.
func eachCached(s *store.Store, names []string, fn func(store.Info) error) error {
	infos, err := cachedFiles(s)
	if err != nil {
		return withCode(exitSystem, err)
	}
	var errs []error
	for _, name := range names {
		found := 0
		for _, i := range infos {
			if !means(strings.TrimSuffix(name, "/"), i) {
				continue
			}
			found++
			if err := fn(i); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", cachedName(i), err))
			}
		}
		if found == 0 {
			errs = append(errs, fmt.Errorf("no cached file is called %q; `vmcastfs cache list` shows them, and what is not cached yet is pinned by its path in a mount", name))
		}
	}
	return withCode(exitFailed, errors.Join(errs...))
}

// means tells whether name is this file's name, its release's, or the first 8
// digits of its key at least.
func means(name string, i store.Info) bool {
	release, _, _ := strings.Cut(i.Label, "/")
	return name == i.Label || name == release && release != "" || len(name) >= 8 && strings.HasPrefix(string(i.Key), name)
}
