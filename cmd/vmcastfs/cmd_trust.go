package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/trust"
)

// openTrust opens what is remembered of the feed. A directory that cannot be
// used ends a mount that asks for signatures, and is told of otherwise.
func openTrust(feedURL string, o options, log *slog.Logger) (*trust.State, error) {
	t, err := trust.Open(o.State, feedURL, log)
	if err == nil {
		return t, nil
	}
	if o.Sig == "require" {
		return nil, withCode(exitSystem, fmt.Errorf("%w; sig=require needs it: name another directory with -o state=DIR", err))
	}
	log.Warn("what is seen of the feed is not remembered: changed or withdrawn releases go unnoticed; -o state=DIR names another directory", "err", err)
	return nil, nil
}

// trustCommand is `vmcastfs trust list|accept|forget`.
func trustCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "show, accept or forget what was seen of a feed",
		Long: `vmcastfs remembers, outside its cache, the digest of each release's manifest
when it was first seen, and the newest release of each feed. It raises an alarm
when

  changed    the manifest of a release is not the one first seen
  replayed   the signed manifest of one release comes under another one
  rollback   the newest release of the feed is older than one seen before

An alarm shows in the log, in status and in list. With sig=require what it is
about is refused (a feed that went back is not shown while there is a newer
one), until "trust accept" takes it. Ask the publisher first: no honest one
does these things without a reason. A running mount notices by itself.`,
	}
	state := addDirectory(cmd, "state", func(o *options) *string { return &o.State })
	return group(cmd, trustListCommand(e, state), trustAcceptCommand(e, state), trustForgetCommand(state))
}

func trustListCommand(e *env, state func() (string, error)) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list [--json] [FEED]",
		Short: "show what was seen, and the alarms",
		Args:  cobra.MaximumNArgs(1),
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir, err := state()
		if err != nil {
			return err
		}
		feeds := []*trust.Feed{}
		d, err := trust.OpenDir(dir, false)
		switch {
		case errors.Is(err, fs.ErrNotExist): // nothing seen yet
		case err != nil:
			return withCode(exitSystem, err)
		default:
			defer d.Close() //nolint:errcheck // only read
			if feeds, err = d.Feeds(); err != nil {
				return withCode(exitSystem, err)
			}
		}
		if len(args) == 1 {
			url, err := trustFeed(args[0])
			if err != nil {
				return err
			}
			feeds = slices.DeleteFunc(feeds, func(t *trust.Feed) bool { return t.Feed != url })
			if len(feeds) == 0 {
				return fmt.Errorf("nothing is known of the feed %s", show.Text(args[0]))
			}
		}
		if asJSON {
			return e.printJSON(feeds)
		}
		return printTrust(e.stdout, feeds)
	}
	return cmd
}

func printTrust(stdout io.Writer, feeds []*trust.Feed) error {
	for _, t := range feeds {
		fmt.Fprintln(stdout, show.Text(t.Feed))
		if n := t.Newest; n != nil {
			fmt.Fprintf(stdout, "  newest release: %s, seen %s\n", show.Text(n.Name), n.Seen.Local().Format("2006-01-02 15:04"))
		}
		for _, a := range t.Alarms {
			fmt.Fprintf(stdout, "  ALARM (%s) %s: %s\n", a.Kind, show.Text(a.Name), show.Text(a.Text))
		}
		var rows table
		for _, id := range slices.SortedFunc(maps.Keys(t.Releases), func(a, b string) int {
			return t.Releases[b].First.Compare(t.Releases[a].First)
		}) {
			r := t.Releases[id]
			rows.row("  "+show.Text(r.Name), fmt.Sprintf("%.16s…", show.Text(r.Manifest)), "first seen "+r.First.Local().Format("2006-01-02"))
			if r.Signed {
				rows.note("signed by " + show.Text(r.Signer))
			} else {
				rows.note("no signature of a trusted key was seen")
			}
			if !r.Accepted.IsZero() {
				rows.note("accepted " + r.Accepted.Local().Format("2006-01-02"))
			}
		}
		if err := rows.print(stdout, widthOf(stdout)); err != nil {
			return err
		}
	}
	return nil
}

func trustAcceptCommand(e *env, state func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "accept FEED [RELEASE]",
		Short: "take what the alarms are about for right",
		Long: `accept takes what the alarms of a feed are about for what was seen: of one
release, or of all of them and of the feed itself. It prints what it accepted;
exit status 1 if there was nothing.`,
		Args: someArgs(1, 2, "a FEED"),
		RunE: withTrust(state, func(d *trust.Dir, url, release string) error {
			accepted, err := d.Accept(url, release)
			if err != nil {
				return err
			}
			for _, a := range accepted {
				fmt.Fprintf(e.stdout, "accepted (%s) %s: %s\n", a.Kind, show.Text(a.Name), show.Text(a.Text))
			}
			if len(accepted) == 0 {
				return errors.New("there is no alarm to accept; vmcastfs trust list shows what is known")
			}
			return nil
		}),
	}
}

func trustForgetCommand(state func() (string, error)) *cobra.Command {
	return &cobra.Command{
		Use:   "forget FEED [RELEASE]",
		Short: "forget a release, or all of a feed",
		Long: `forget removes what is known of a release, or of the whole feed, which is then
seen for the first time again. Prefer accept, which forgets less.`,
		Args: someArgs(1, 2, "a FEED"),
		RunE: withTrust(state, (*trust.Dir).Forget),
	}
}

// withTrust runs fn on the directory and what FEED [RELEASE] name.
func withTrust(state func() (string, error), fn func(d *trust.Dir, url, release string) error) func(*cobra.Command, []string) error {
	return func(_ *cobra.Command, args []string) error {
		dir, err := state()
		if err != nil {
			return err
		}
		url, err := trustFeed(args[0])
		if err != nil {
			return err
		}
		d, err := trust.OpenDir(dir, true)
		if err != nil {
			return withCode(exitSystem, err)
		}
		defer d.Close() //nolint:errcheck // each change is on the disk
		release := ""
		if len(args) > 1 {
			release = args[1]
		}
		return fn(d, url, release)
	}
}

// trustFeed is feedArgument, but for a local feed that is gone by now.
func trustFeed(arg string) (string, error) {
	url, err := feedArgument(arg)
	if errors.Is(err, fs.ErrNotExist) {
		return filepath.Abs(strings.TrimPrefix(arg, "file://"))
	}
	return url, err
}
