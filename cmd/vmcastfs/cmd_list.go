package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"vmcastfs/cache/remote"
	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/cmd/internal/page"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
)

// listed is a release as `list --json` prints it.
type listed struct {
	Name      string      `json:"name"`
	Title     string      `json:"title"`
	ID        string      `json:"id"`
	Published *time.Time  `json:"published,omitempty"`
	URL       string      `json:"url"`
	Size      int64       `json:"size"` // of the package; as the feed claims it if State is not "indexed"
	Signature string      `json:"signature,omitempty"`
	Signer    string      `json:"signer,omitempty"`
	Reason    string      `json:"signature_reason,omitempty"` // why Signature is not "good"
	TrustedBy string      `json:"trusted_by,omitempty"`       // whose signature counts: "publisher" or "sidecar"
	State     string      `json:"state"`
	Error     string      `json:"error,omitempty"`
	Withdrawn *time.Time  `json:"withdrawn,omitempty"` // when the feed was found to have dropped it
	Alarm     string      `json:"alarm,omitempty"`     // in what the release is not what it was
	Warnings  []string    `json:"warnings,omitempty"`  // what is wrong with the archive or its manifest
	Hidden    []string    `json:"hidden,omitempty"`    // entries of the archive that are not shown, and why
	Images    []listImage `json:"images"`
}

type listImage struct {
	Name    string `json:"name"`
	Size    int64  `json:"size"` // -1: not known yet
	State   string `json:"state"`
	Note    string `json:"verify_note,omitempty"` // why it is checked in another way than asked for, or cannot be
	Refused string `json:"refused,omitempty"`     // why it is not served, where signatures are required
	words   string // its state
}

// maxLooked is how many releases are looked at for a screen that does not show as many.
const maxLooked = 128

// looked is how many of so many releases are looked at for the screen.
func (s screen) looked(all int) int {
	if s.height == 0 {
		return all
	}
	return min(all, max(s.height, maxLooked))
}

// listCommand is `vmcastfs list [--json] FEED`.
func listCommand(e *env) *cobra.Command {
	var asJSON bool
	var list string
	var limit int
	cmd := &cobra.Command{
		Use:   "list [--json] FEED",
		Short: "show the releases of a feed",
		Long: `list shows the releases of a feed without mounting it: name, date, size, images,
signature (good, bad, missing, unchecked; "sidecar": one that is signed vouches
for it) and state. It reads the headers of the packages it has not seen yet, a
few small requests each, and asks whether the others are still the same. A
release that cannot be read, or that its server has no more or refuses, is
listed with the reason, and makes the exit status 1. Below a release stands what
is wrong with its archive or manifest, and which entries are not shown. On a
terminal only the newest 128 are read, and those are shown that fit.`,
		Args: exactArgs(1, "a FEED"),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := softOptions(list)
			if err != nil {
				return err
			}
			feedURL, err := feedArgument(args[0])
			if err != nil {
				return err
			}
			s, err := openSession(cmd.Context(), feedURL, o, e.quietLog())
			if err != nil {
				return err
			}
			defer s.close()
			return e.list(cmd.Context(), s.catalog, asJSON, limit)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")
	addOptions(cmd, &list, "mount `OPTIONS` that concern the network, cache and trust")
	cmd.Flags().IntVarP(&limit, "number", "n", -1, "only the newest `N` releases; 0: all (default: on a terminal, what fits)")
	return cmd
}

func (e *env) list(ctx context.Context, c *catalog.Catalog, asJSON bool, limit int) error {
	releases := c.Snapshot().Releases()
	if limit > 0 && limit < len(releases) {
		releases = releases[:limit]
	}
	if limit <= 0 {
		releases = c.Snapshot().All()
	}
	on := screenOf(e.stdout).all(asJSON || limit >= 0)
	rest := len(releases) - on.looked(len(releases))
	releases = releases[:len(releases)-rest]
	rows := make([]listed, len(releases))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for i, r := range releases {
		g.Go(func() error {
			rows[i] = listRelease(gctx, r)
			return gctx.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return withCode(exitInterrupted, err)
	}
	faults := 0
	for _, row := range rows {
		if row.Error != "" {
			faults++
		}
	}
	if asJSON {
		if err := e.printJSON(rows); err != nil {
			return err
		}
	} else {
		if err := printList(e.stdout, on, rows, rest, listNext(c.Status().Feed.URL, rows)); err != nil {
			return err
		}
	}
	if why := c.Status().Feed.Rollback; why != "" {
		fmt.Fprintf(e.stderr, "vmcastfs: ALARM: %s\n", show.Text(why))
	}
	if faults > 0 {
		return withCode(exitFailed, fmt.Errorf("%d of %d releases are refused or cannot be used", faults, len(rows)))
	}
	return nil
}

func listRelease(ctx context.Context, r *catalog.Release) listed {
	_, _ = r.PackageSoon(ctx) // its error is in the status
	newest, lost := r.Confirm(ctx)
	if newest != r {
		r = newest
		_, _ = r.PackageSoon(ctx)
	}
	st, item := r.Status(), r.Item()
	row := listed{
		Name: st.Name, Title: st.Title, ID: st.ID, Published: st.Published, URL: st.URL,
		Size: item.Length, State: st.State, Withdrawn: st.Withdrawn, Error: st.Error, Images: []listImage{},
	}
	switch {
	case errors.Is(lost, remote.ErrNotFound):
		row.Error = "the archive is not on its server any more: " + lost.Error()
	case remote.IsLost(lost):
		row.Error = "the server refuses to give the archive: " + lost.Error()
	}
	p, ok := r.Peek()
	if !ok {
		return row
	}
	if why := p.Index().Truncated; why != "" && row.Error == "" {
		row.Error = "the archive is not whole: " + why
	}
	row.Size = p.Index().Size
	sig := st.Trust.Manifest
	if d := st.Trust.Description; sig.State == "good" && d.State == "bad" {
		sig = d
	}
	row.Signature, row.Signer, row.Reason = sig.State, sig.Signer, sig.Reason
	if row.TrustedBy = st.Trust.By; row.TrustedBy == "sidecar" {
		row.Signer = st.Sidecar.Signer
	}
	row.Alarm, row.Warnings, row.Hidden = st.Alarm, st.Warnings, st.Hidden
	for _, f := range st.Files {
		if f.Image && !f.NoDisk {
			f.Open = false // by nobody but this command, which looks at it
			row.Images = append(row.Images, listImage{f.Name, f.Size, f.State, f.VerifyNote, f.Refused, page.ImageState(f)})
		}
	}
	return row
}

// listNext is what to do next about a feed.
func listNext(feed string, rows []listed) string {
	feed = hvconfig.ShellWord(show.Text(feed))
	next := "mount it: vmcastfs mount " + feed + " DIR"
	for _, row := range rows {
		name := show.Text(row.Name)
		switch {
		case row.Error != "":
			return fmt.Sprintf("see what is wrong with %s: vmcastfs verify %s %s", name, feed, hvconfig.ShellWord(name))
		case row.Alarm != "":
			return fmt.Sprintf("ask the publisher about %s; if it is right so: vmcastfs trust accept %s %s", name, feed, hvconfig.ShellWord(name))
		case row.Signature == "unchecked":
			next = "have signatures checked: put the publisher's key into " + defaultKeyring
		}
	}
	return next
}

// printList shows rows; of so many more releases nothing is known.
func printList(stdout io.Writer, on screen, rows []listed, rest int, next string) error {
	var t table
	t.row("RELEASE", "STATE", "DATE", "SIZE", "SIGNATURE")
	room, more := on.height-5, rest
	for i, row := range rows {
		var one table
		row.addTo(&one)
		if room -= one.height(on.width); room < 0 && on.height > 0 && i > 0 {
			more += len(rows) - i
			break
		}
		t.rows, t.notes = append(t.rows, one.rows...), append(t.notes, one.notes...)
	}
	var text strings.Builder
	if err := t.print(&text, on.width); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(&text, "… %s more; list -n 0 shows them\n", count(more, "release"))
	}
	text.WriteString("\n" + nextLine(next, on.width))
	_, err := io.WriteString(stdout, on.paint(plainText(text.String())))
	return err
}

// addTo adds a release with its images.
func (row listed) addTo(t *table) {
	date := "-"
	if row.Published != nil {
		date = row.Published.Format("2006-01-02")
	}
	signature := dash(row.Signature)
	if row.TrustedBy == "sidecar" {
		signature = "sidecar"
	}
	state, _ := page.ReleaseState(row.State)
	if row.Error != "" && row.State != "refused" {
		state = page.Unusable
	}
	t.row(show.Text(row.Name), withdrawnState(state, row.Withdrawn), date, humanize.IBytes(uint64(max(row.Size, 0))), signature)
	t.note(show.Text(row.Error))
	if row.Alarm != "" && row.Error == "" {
		t.note("ALARM: " + show.Text(row.Alarm))
	}
	if signature == "bad" && row.Error == "" {
		t.note("signature: " + show.Text(row.Reason))
	}
	for _, im := range row.Images {
		t.note(show.Text(im.text()))
	}
	for _, faults := range []struct {
		what, more string
		texts      []string
	}{{"warning", "warnings", row.Warnings}, {"an entry is not shown", "entries are not shown", row.Hidden}} {
		for _, text := range faults.texts[:min(len(faults.texts), listedFaults)] {
			if text != row.Error {
				t.note(faults.what + ": " + show.Text(text))
			}
		}
		if more := len(faults.texts) - listedFaults; more > 0 {
			t.note(fmt.Sprintf("and %d more %s; --json has them all", more, faults.more))
		}
	}
}

// withdrawnState adds to the state of a release that its feed has dropped it.
func withdrawnState(state string, at *time.Time) string {
	if at == nil {
		return state
	}
	return state + ", withdrawn " + at.Format(time.DateOnly)
}

// text is an image in words.
func (im listImage) text() string {
	size, note := "size not known", cmp.Or(im.Refused, im.Note)
	if im.Size >= 0 {
		size = humanize.IBytes(uint64(im.Size))
	}
	if note != "" {
		note = "; " + note
	}
	return fmt.Sprintf("%s: %s, %s%s", im.Name, size, im.words, note)
}

// listedFaults is how many warnings, and hidden entries, of a release the table names.
const listedFaults = 5
