package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"vmcastfs/cache/remote"
	"vmcastfs/feed"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// verifyCall is one call of `vmcastfs verify`.
type verifyCall struct {
	list    string
	asJSON  bool
	address string
	release string // "": all
}

// verifiedPackage is a package as `verify --json` prints it.
type verifiedPackage struct {
	Release string `json:"release,omitempty"`
	URL     string `json:"url"`
	Error   string `json:"error,omitempty"` // it could not be read, or is no package
	*xvmpack.Report
}

// verifyCommand is `vmcastfs verify FEED|FILE.xvm|URL [RELEASE]`.
func verifyCommand(e *env) *cobra.Command {
	var c verifyCall
	cmd := &cobra.Command{
		Use:   "verify [--json] FEED|FILE.xvm|URL [RELEASE]",
		Short: "fetch and check everything of a package or a feed",
		Long: `verify reads a package, or every package of a feed, once from its beginning to
its end, past the cache, and says of each file what it is proven by:

  a sum in the manifest, all blocks in the block list, the signature over it,
  the checksums of an XVA archive, a sidecar (-o sidecar=), or that it is what
  a proven file inflates to.

A package may be anything that a mount shows: XVM, OVA, XVA, a disk image, each
of them also compressed as a whole; that is inflated into TMPDIR.

A file is "verified", "unverified" (nothing speaks of it) or "corrupt". The exit
status is 1 if anything is wrong: a sum or block that differs, a file that is
missing, an image that cannot be decompressed, a bad signature, bytes between
the files that belong to none. What is merely unproven is a fault only if
signatures are required, as they are with a keyring: then all that a mount would
refuse is, such as a file of which the signed manifest has an MD5 only. The
signature of a sidecar will do.`,
		Example: `  vmcastfs verify debian-12.5.xvm
  vmcastfs verify -o keyring=keys https://example.org/vmcast.xml`,
		Args: someArgs(1, 2, "a FEED, FILE.xvm or URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.address = args[0]
			if len(args) == 2 {
				c.release = args[1]
			}
			return e.verify(cmd.Context(), c)
		},
	}
	cmd.Flags().BoolVar(&c.asJSON, "json", false, "print JSON for scripts")
	addOptions(cmd, &c.list, "mount `OPTIONS` that concern the network, cache and trust")
	return cmd
}

func (e *env) verify(ctx context.Context, c verifyCall) error {
	o, err := softOptions(c.list)
	if err != nil {
		return err
	}
	log := e.quietLog()
	v := &verifier{env: e, options: o}
	if v.how.Keyring, err = loadKeyring(o, log); err != nil {
		return err
	}
	v.how.RequireSigned = o.Sig == "require"

	var notTar *xvm.TarError
	err = e.withArchive(ctx, o, log, c.address, func(client *remote.Client, a *openedArchive) error {
		p, err := v.check(ctx, client, a, c.address, feed.Release{})
		if err == nil {
			v.packages = append(v.packages, p)
		}
		return err
	})
	switch {
	case errors.Is(err, xvm.ErrNotTar):
		if err := v.feed(ctx, c, o, err); err != nil {
			return err
		}
	case errors.Is(err, xvm.ErrNotPackage):
		v.packages = append(v.packages, verifiedPackage{URL: c.address, Error: err.Error()})
	case errors.As(err, &notTar):
		v.packages = append(v.packages, verifiedPackage{URL: c.address, Error: notTar.Error()})
	case err != nil:
		return err
	case c.release != "":
		return usagef("%s is a package and has no release %q", c.address, c.release)
	}
	return v.conclude(c.asJSON)
}

// verifier is one run of verify.
type verifier struct {
	*env
	options  options
	how      xvmpack.CheckOptions
	packages []verifiedPackage
}

// check reads one package, as what a feed offers it, if one does.
func (v *verifier) check(ctx context.Context, client *remote.Client, opened *openedArchive, address string, offered feed.Release) (p verifiedPackage, err error) {
	how := v.how
	how.Release, how.SHA256 = offered.ID, offered.SHA256
	if how.Sidecar, err = v.sidecarOf(ctx, client, v.options, address, offered.SHA256); err != nil {
		return p, err
	}
	a, err := v.enclosedIn(ctx, opened, address)
	if err != nil {
		return p, err
	}
	defer a.Close()
	add, done := v.progress("checking", a.size)
	defer done()
	how.Progress, how.Bare = add, a.bare
	report, err := xvmpack.Check(ctx, a, a.size, how)
	if err == nil && a.note != "" {
		report.Warnings = append(report.Warnings, a.note)
	}
	return verifiedPackage{URL: show.Address(address), Report: report}, err
}

// feed checks the packages of a feed.
func (v *verifier) feed(ctx context.Context, c verifyCall, o options, notPackage error) error {
	address, err := feedArgument(c.address)
	if err != nil {
		return err
	}
	s, err := openSession(ctx, address, o, v.quietLog())
	if errors.Is(err, feed.ErrNotFeed) {
		return withCode(exitFailed, fmt.Errorf("%s is neither a package (%w) nor a feed", c.address, notPackage))
	}
	if err != nil {
		return err
	}
	defer s.close()
	found := false
	for _, r := range s.catalog.Snapshot().Releases() {
		if c.release != "" && r.Name() != c.release {
			continue
		}
		found = true
		p, err := v.fetched(ctx, s, r, address)
		if ctx.Err() != nil {
			return withCode(exitInterrupted, ctx.Err())
		}
		if err != nil {
			p = verifiedPackage{URL: show.Address(r.Item().URL), Error: err.Error()}
		}
		p.Release = r.Name()
		v.packages = append(v.packages, p)
	}
	if !found && c.release != "" {
		return withCode(exitFailed, fmt.Errorf("the feed has no release %q; `vmcastfs list` shows those it has", c.release))
	}
	return nil
}

// fetched checks a release of a feed.
func (v *verifier) fetched(ctx context.Context, s *session, r *catalog.Release, base string) (verifiedPackage, error) {
	f, isFile, err := r.OpenFile()
	var a *openedArchive
	if isFile && err == nil {
		a, err = openFileArchive(f)
	} else if err == nil {
		a, err = openRemoteArchive(ctx, s.remote, r.Item().URL, base, v.env)
	}
	if err != nil {
		return verifiedPackage{}, err
	}
	defer a.close() //nolint:errcheck // only read
	p, err := v.check(ctx, s.remote, a, r.Item().URL, r.Item())
	if err == nil && r.Item().Length > 0 && r.Item().Length != a.size {
		p.Report.Warnings = append(p.Report.Warnings, fmt.Sprintf("the feed says that the package has %d bytes", r.Item().Length))
	}
	return p, err
}

// conclude prints what was found.
func (v *verifier) conclude(asJSON bool) error {
	faults, bad := 0, 0
	for _, p := range v.packages {
		n := 0
		if p.Error != "" {
			n++
		}
		if p.Report != nil {
			n += len(p.Report.Faults)
		}
		faults += n
		if n > 0 {
			bad++
		}
	}
	if asJSON {
		if err := v.printJSON(v.packages); err != nil {
			return err
		}
	} else {
		for _, p := range v.packages {
			name := p.URL
			if p.Release != "" {
				name = p.Release + "  " + p.URL
			}
			if p.Error != "" {
				fmt.Fprintf(v.stdout, "%s\n%s", show.Text(name), wrapped("  FAULT: ", show.Text(p.Error), widthOf(v.stdout)))
				continue
			}
			if err := printReport(v.stdout, name, p.Report); err != nil {
				return err
			}
		}
	}
	if faults > 0 {
		return withCode(exitFailed, fmt.Errorf("%s in %d of %d packages", count(faults, "fault"), bad, len(v.packages)))
	}
	return nil
}

// printReport prints a report for people.
func printReport(stdout io.Writer, name string, r *xvmpack.Report) error {
	width := widthOf(stdout)
	fmt.Fprintf(stdout, "%s  %s\n", show.Text(name), humanize.IBytes(uint64(r.Size)))
	var t table
	t.row("  FILE", "SIZE", "STATE", "PROVEN BY")
	verified := 0
	for _, f := range r.Files {
		size := "-"
		if f.Size >= 0 {
			size = humanize.IBytes(uint64(f.Size))
		}
		if f.State == xvmpack.Verified {
			verified++
		}
		t.row("  "+show.Text(f.Name), size, string(f.State), dash(show.Text(strings.Join(f.Proofs, "; "))))
	}
	err := t.print(stdout, width)
	say := func(label, text string) { fmt.Fprint(stdout, wrapped("  "+label+": ", show.Text(text), width)) }
	say("signature of the manifest", signatureText(r.Manifest))
	say("signature of the description", signatureText(r.Description))
	if r.Sidecar != nil {
		say("signature of the sidecar", signatureText(*r.Sidecar))
	}
	for _, text := range r.Warnings {
		say("note", text)
	}
	for _, text := range r.Faults {
		say("FAULT", text)
	}
	fmt.Fprintf(stdout, "  %d of %d files verified, %s\n", verified, len(r.Files), count(len(r.Faults), "fault"))
	return err
}

func signatureText(s xvm.Signature) string {
	switch s.State {
	case "good":
		return fmt.Sprintf("good, by %s (key %s)", s.Signer, s.KeyID)
	case "unchecked":
		return "not checked, no keyring is given"
	}
	return s.State
}
