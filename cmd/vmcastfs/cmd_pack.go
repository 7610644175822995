package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"vmcastfs/feed/show"
	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// packCall is one call of `vmcastfs pack`.
type packCall struct {
	sign         signFlags
	out, profile string
	guid         string
	blockSize    string
	compress     string
	level        int
	description  string
	images       []packImage
}

// autoProfile is the value of --profile that has a boot recorded.
const autoProfile = "auto"

// packImage is a file and its name in the package; "": the last part of its path.
type packImage struct {
	path, name string
	off, size  int64 // of a part of the file; 0: all of it
}

// packCommand is `vmcastfs pack -o OUT.xvm … XVM.XML IMAGE…`.
func packCommand(e *env) *cobra.Command {
	var c packCall
	cmd := &cobra.Command{
		Use:   "pack -o OUT.xvm [flags] XVM.XML IMAGE…",
		Short: "make a package",
		Long: `pack makes an XVM package of a description and images: an ordinary tar archive
with a manifest of SHA-1 and SHA-256 sums, a list of the SHA-256 of every block,
so that a mount checks each before it serves it, and, if a key is given,
signatures. tar, gunzip, sha1sum, sha256sum and gpg can read all of it.

Images are compressed block by block, each block a gzip member of its own, so
that a mount inflates only what is read; those whose name ends in .gz, .xz, .zst
or .bz2 are taken as they are. The same input gives the same bytes, signatures
included if the key is RSA or Ed25519 and in a file. Next to OUT.xvm there must
be room for the stored images a second time.

With --guid the manifest, and so its signature, names the one release that the
package is for: no feed can pass it off as another, neither an old one as new.
Any text does that is not used twice; many take a URL or a UUID. publish puts it
into the feed.

--profile=auto boots the first disk once in QEMU, with the kernel that the
description names if that is among the files, and records what that reads until
it has read nothing for 45 seconds. The disk is not written to.

The exit status is 0 if the package was made, else 1, and OUT.xvm is as it was.`,
		Example: `  vmcastfs pack -o debian-12.5.xvm --sign key.asc \
    --guid urn:example:debian-12.5 xvm.xml root.img swap.img
  gpg --export-secret-keys --armor publisher@example.org >key.asc`,
		Args: someArgs(2, math.MaxInt, "an XVM.XML and an IMAGE at least"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c.description = args[0]
			for _, path := range args[1:] {
				c.images = append(c.images, packImage{path: path})
			}
			return e.pack(cmd.Context(), c)
		},
	}
	cmd.Flags().StringVar(&c.blockSize, "block-size", "64K", "`SIZE` of a block, a power of two from 4K to 8M")
	cmd.Flags().StringVar(&c.profile, "profile", "", "`FILE` with a boot profile, to be put into the package; auto: boot it once")
	c.add(cmd)
	return cmd
}

// add adds the flags of the commands that make a package.
func (c *packCall) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&c.out, "output", "o", "", "write the package to `OUT.xvm`")
	cmd.Flags().StringVar(&c.compress, "compress", "gzip", "`gzip` or none")
	cmd.Flags().IntVar(&c.level, "level", 6, "of compression: 1, fast, to 9, small")
	cmd.Flags().StringVar(&c.guid, "guid", "", "`ID` of the one release that the package is for; publish gives it to the feed")
	c.sign.add(cmd)
}

func (e *env) pack(ctx context.Context, c packCall) error {
	if c.out == "" {
		return usagef("pack needs -o OUT.xvm")
	}
	o := xvmpack.Options{Level: c.level, TempDir: filepath.Dir(c.out), Release: c.guid}
	if c.guid != "" {
		if _, err := xvm.AppendRelease(nil, c.guid); err != nil || show.Text(c.guid) != c.guid {
			return usagef("--guid %q: must be printable text of at most %d bytes", c.guid, xvm.MaxReleaseID)
		}
	}
	switch c.compress {
	case "gzip", "none":
		o.Compress = c.compress == "gzip"
	default:
		return usagef("--compress must be gzip or none")
	}
	if c.level < 1 || c.level > 9 {
		return usagef("--level must be a number from 1 to 9")
	}
	var err error
	if o.BlockSize, err = parseBlockSize(c.blockSize); err != nil {
		return err
	}
	if o.Sign, o.Time, err = c.sign.read(); err != nil {
		return err
	}
	total, files, err := c.open(&o)
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if err != nil {
		return withCode(exitFailed, err)
	}
	if c.profile == autoProfile {
		if o.Profile, err = recordBoot(ctx, e, o.Description, c.images); err != nil {
			return withCode(exitFailed, err)
		}
	}
	inputs := []string{c.description, c.profile, c.sign.key}
	for _, im := range c.images {
		inputs = append(inputs, im.path)
	}
	out, err := newOutput(c.out, inputs...)
	if err != nil {
		return err
	}
	defer out.Cleanup() //nolint:errcheck // of what was not finished
	add, done := e.progress("packing", total)
	o.Progress = add
	res, err := xvmpack.Pack(ctx, out.File, o)
	done()
	if err == nil {
		err = out.CloseAtomicallyReplace()
	}
	if err != nil {
		return withCode(exitFailed, fmt.Errorf("pack %s: %w", c.out, err))
	}
	for _, w := range res.Warnings {
		fmt.Fprintf(e.stderr, "vmcastfs: warning: %s\n", show.Text(w))
	}
	w := tabwriter.NewWriter(e.stdout, 0, 8, 2, ' ', 0)
	for _, im := range res.Images {
		fmt.Fprintf(w, "%s\t%s\tin %s\t%s\n", im.Name, humanize.IBytes(uint64(im.Size)), im.Member, humanize.IBytes(uint64(im.Stored)))
	}
	fmt.Fprintf(w, "%s\t%s\t%s\n", c.out, humanize.IBytes(uint64(res.Size)), map[bool]string{true: "signed", false: "not signed"}[o.Sign != nil])
	return w.Flush()
}

// open opens the inputs and, unless the time is given, takes that of the newest.
func (c *packCall) open(o *xvmpack.Options) (total int64, files []*os.File, err error) {
	newest := time.Unix(0, 0)
	see := func(info os.FileInfo, err error) error {
		if err == nil && info.ModTime().After(newest) {
			newest = info.ModTime()
		}
		return err
	}
	small := func(path string, limit int64) ([]byte, error) {
		b, err := readAtMost(path, limit)
		if err != nil {
			return nil, err
		}
		return b, see(os.Stat(path))
	}
	if o.Description, err = small(c.description, xvm.MaxDescriptionSize); err != nil {
		return 0, nil, err
	}
	if c.profile != "" && c.profile != autoProfile {
		if o.Profile, err = small(c.profile, xvm.MaxProfileSize); err != nil {
			return 0, nil, err
		}
	}
	for _, im := range c.images {
		f, err := os.OpenFile(im.path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a FIFO must not hang us
		if err != nil {
			return 0, files, err
		}
		files = append(files, f)
		size, err := imageSize(f)
		if err != nil {
			return 0, files, err
		}
		content := io.Reader(f)
		if im.size > 0 {
			size, content = im.size, io.NewSectionReader(f, im.off, im.size)
		}
		if err := see(f.Stat()); err != nil {
			return 0, files, err
		}
		total += size
		o.Inputs = append(o.Inputs, xvmpack.Input{Name: cmp.Or(im.name, filepath.Base(im.path)), Size: size, Content: content})
	}
	if o.Time.IsZero() {
		o.Time = newest
		if o.Sign != nil && newest.After(time.Now().Add(5*time.Minute)) {
			return 0, files, errors.New("an input has a time in the future, so that no reader would accept the signatures: give a --date")
		}
	}
	return total, files, nil
}

// imageSize is the length of a file or block device.
func imageSize(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if m := info.Mode(); !m.IsRegular() && m&os.ModeType != os.ModeDevice {
		return 0, fmt.Errorf("%s is neither a file nor a block device", f.Name())
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return size, err
}
