package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"vmcastfs/cache/remote"
	"vmcastfs/feed/show"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// indexCall is one call of `vmcastfs index`.
type indexCall struct {
	sign      signFlags
	out, list string
	profile   string
	blockSize string
	address   string
}

// indexCommand is `vmcastfs index [-o SIDECAR] URL|FILE`.
func indexCommand(e *env) *cobra.Command {
	var c indexCall
	cmd := &cobra.Command{
		Use:   "index [-o SIDECAR] [flags] URL|FILE",
		Short: "make a sidecar: a block list for somebody else's package",
		Long: `index reads somebody else's package once, from a file or its server, checks it
whole against its own manifest, and writes a sidecar: a SHA-256 of every block,
and seek points for compressed images. With it a mount checks each block before
it serves it, and reads anywhere in an image compressed by gzip, or xz or zstd
in blocks or frames, at once. An xz file of one block, or a zstd file of one
frame, has no point in between that would not hold megabytes of history: it is
decoded in order, as bzip2 is, and index says so. The package may be anything
that a mount shows: XVM, OVA, XVA, a disk image, each of them also compressed
as a whole.

Sign it with a key that your hosts trust: by that you vouch for the package,
also where they require signatures and its publisher made none, or with another
key. Compare what is printed of it with what the publisher says first. The
sidecar of p.xvm is called p.xvm.sidecar, and that is where it goes, in the
working directory, unless -o says otherwise.

A boot profile goes along with --profile, for images that are not compressed as
one stream: a mount then fetches ahead of a boot what it will read.

A package with a block list of its own gains nothing from a sidecar, unless it
is signed by none of your keys: a signed sidecar vouches for it then, and a
mount checks its blocks against the sidecar. --options sig=ignore has index
itself take a package that is not signed, where there is a keyring.

The exit status is 1, and no sidecar is written, if the package has a fault, or
a block list of its own that will do.`,
		Example: `  vmcastfs index --sign key.asc https://example.org/debian-12.5.xvm`,
		Args:    exactArgs(1, "a URL or FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.address = args[0]
			return e.index(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVarP(&c.out, "output", "o", "", "write the sidecar to `SIDECAR`")
	cmd.Flags().StringVar(&c.list, "options", "", "mount `OPTIONS` that concern the network and trust")
	_ = cmd.RegisterFlagCompletionFunc("options", completeOptions)
	cmd.Flags().StringVar(&c.blockSize, "block-size", "64K", "`SIZE` of a block, a power of two from 4K to 8M")
	cmd.Flags().StringVar(&c.profile, "profile", "", "`FILE` with a boot profile, to be put into the sidecar")
	c.sign.add(cmd)
	return cmd
}

func (e *env) index(ctx context.Context, c indexCall) error {
	o, err := softOptions(c.list)
	if err != nil {
		return err
	}
	var how xvmpack.IndexOptions
	if how.BlockSize, err = parseBlockSize(c.blockSize); err != nil {
		return err
	}
	if how.Sign, how.Time, err = c.sign.read(); err != nil {
		return err
	}
	if c.profile != "" {
		if how.Profile, err = profileText(c.profile); err != nil {
			return withCode(exitFailed, err)
		}
	}
	log := e.quietLog()
	if how.Keyring, err = loadKeyring(o, log); err != nil {
		return err
	}
	how.RequireSigned = o.Sig == "require"
	if c.out == "" {
		name := path.Base(c.address)
		if u, err := url.Parse(c.address); err == nil && u.Scheme != "" {
			name = path.Base(u.Path)
		}
		c.out = name + xvm.SidecarSuffix
	}
	return e.withArchive(ctx, o, log, c.address, func(_ *remote.Client, opened *openedArchive) error {
		a, err := e.enclosedIn(ctx, opened, c.address)
		if err != nil {
			return withCode(exitFailed, fmt.Errorf("index %s: %w", c.address, err))
		}
		defer a.Close()
		how.Bare = a.bare
		out, err := newOutput(c.out, c.address, c.profile, c.sign.key)
		if err != nil {
			return err
		}
		defer out.Cleanup() //nolint:errcheck // of what was not finished
		add, done := e.progress("indexing", a.size)
		how.Progress = add
		report, err := xvmpack.Index(ctx, a, a.size, out.File, how)
		done()
		if errors.Is(err, xvmpack.ErrFaults) {
			printReport(e.stdout, c.address, report)
		}
		if err == nil {
			err = out.CloseAtomicallyReplace()
		}
		if err != nil {
			return withCode(exitFailed, fmt.Errorf("index %s: %w", c.address, err))
		}
		for _, text := range report.Warnings {
			fmt.Fprintf(e.stderr, "vmcastfs: note: %s\n", show.Text(text))
		}
		unproven := 0
		for _, f := range report.Files {
			if f.State == xvmpack.Unverified && f.From == "" && f.Name != xvm.ManifestName {
				unproven++
			}
		}
		if unproven > 0 {
			fmt.Fprintf(e.stderr, "vmcastfs: warning: nothing in the package proves %d of its %d files; the sidecar takes them as they are now\n", unproven, len(report.Files))
		}
		fmt.Fprintf(e.stdout, "%s  for a package of %s, %s\n  sha256 %s\n", c.out, humanize.IBytes(uint64(report.Size)),
			map[bool]string{true: "signed", false: "not signed"}[how.Sign != nil], report.SHA256)
		return nil
	})
}
