package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/cache/store"
	"vmcastfs/cmd/internal/page"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/image"
)

// analyzeCommand is `vmcastfs analyze DIR/RELEASE/IMAGE`.
func analyzeCommand(e *env) *cobra.Command {
	var asHTML bool
	cmd := &cobra.Command{
		Use:   "analyze [--html] {DIR/RELEASE[/IMAGE]|NAME} > boot.svg",
		Short: "draw the last boot from an image",
		Long: `analyze draws what a mount has recorded of the last boot from an image, as SVG:
which of its pieces are here, what was read when, and where the guest waited.
To a terminal it writes that as a sentence. A mount keeps the record in its
cache, for images that are opened without -o profile=off. So analyze draws it
after a remount, too; without a mount by its NAME, as "cache list" shows it.`,
		Example: `  vmcastfs analyze /srv/vmcast/latest/root.img > boot.svg
  vmcastfs analyze --html debian-12.5/root.img > boot.html`,
		Args: exactArgs(1, "an image: DIR/RELEASE/IMAGE"), ValidArgsFunction: completeInMounts,
	}
	dir := addDirectory(cmd, "cache", func(o *options) *string { return &o.Cache })
	cmd.Flags().BoolVar(&asHTML, "html", false, "write a page of HTML instead")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b, err := findBoot(e, cmd.Context(), args[0], dir)
		if err == nil {
			err = page.Check(&b)
		}
		if err != nil {
			return withCode(exitFailed, err)
		}
		var out bytes.Buffer
		switch {
		case terminalOf(e.stdout) != nil:
			out.WriteString(wrapped("", page.Sentence(b.Picture, time.Now()), widthOf(e.stdout)))
			out.WriteString("To draw it, send the output to a file: vmcastfs analyze … > boot.svg\n")
		case asHTML:
			err = page.WriteHTML(&out, b, time.Now())
		default:
			err = page.WriteSVG(&out, b, time.Now())
		}
		if err == nil {
			_, err = e.stdout.Write(out.Bytes())
		}
		return err
	}
	return cmd
}

// maxBoot bounds what a mount may tell of a boot, in bytes: the process behind it need
// not be ours.
const maxBoot = 16 << 20

// findBoot is the last boot of an image, from a mount or from the cache, of several
// images the one that was booted from last.
func findBoot(e *env, ctx context.Context, arg string, dir func() (string, error)) (b catalog.Boot, err error) {
	if !isPath(arg) {
		return keptBoot(e, arg, dir)
	}
	images, err := imagesOf(ctx, arg)
	if err != nil {
		return b, err
	}
	var errs []error
	for _, im := range images {
		key := attr(im.path, "key")
		if key == "" {
			errs = append(errs, fmt.Errorf("%s has no record of its own: name one of the images that it is made of", im.path))
			continue
		}
		raw, err := readAtMost(filepath.Join(im.mount.Dir, ".vmcastfs", key+".boot"), maxBoot)
		var x catalog.Boot
		if err == nil {
			err = json.Unmarshal(raw, &x)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b = later(b, x)
	}
	if b.File == "" {
		return b, errors.Join(errs...)
	}
	return b, nil
}

// later is the Boot of the later boot.
func later(a, b catalog.Boot) catalog.Boot {
	if a.File == "" || b.Boot != nil && (a.Boot == nil || b.Boot.Begun.After(a.Boot.Begun)) {
		return b
	}
	return a
}

// keptBoot is the last boot that the cache knows of an image.
func keptBoot(e *env, name string, dir func() (string, error)) (b catalog.Boot, err error) {
	path, err := dir()
	if err != nil {
		return b, err
	}
	s, err := e.openCache(path)
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = eachCached(s, []string{name}, func(i store.Info) error {
		x := catalog.Boot{Picture: image.Picture{Boot: image.KeptBoot(s, i.Key), Checked: i.State == store.Verified}}
		x.Release, x.File, _ = strings.Cut(i.Label, "/")
		if x.File == "" {
			x.Release, x.File = "cache", string(i.Key)
		}
		x.Status = image.Status{Name: x.File, Size: i.Size, State: i.State.String(), CachedBytes: i.Bytes}
		if i.Size > 0 {
			x.Status.Percent = 100 * float64(i.Bytes) / float64(i.Size)
		}
		x.Pieces = image.PiecesOf(s, i.Key, catalog.BootPieces, x.Boot)
		if x.Boot != nil && (x.Boot.Verify == "block" || x.Boot.Verify == "kept") {
			x.Checked = true
		}
		b = later(b, x)
		return nil
	})
	return b, err
}
