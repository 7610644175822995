package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"vmcastfs/feed/show"
	"vmcastfs/fs"
	"vmcastfs/fs/catalog/image"
)

// prefetchCommand is `vmcastfs prefetch DIR/RELEASE…`.
func prefetchCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "prefetch DIR/RELEASE[/IMAGE]...",
		Short: "fetch and check images of a mount to the end",
		Long: `prefetch has a mount fetch what is missing of the images of a release, or of one
image, and check them, and waits for it. What has been fetched stays when it is
interrupted: call it again to go on. The exit status is 1 if an image turns out
corrupt or cannot be had.`,
		Example: `  vmcastfs prefetch /srv/vmcast/latest
  vmcastfs prefetch /srv/vmcast/debian-12.5/root.img`,
		Args:              someArgs(1, math.MaxInt, "a release or an image of a mount"),
		ValidArgsFunction: completeInMounts,
		RunE: func(cmd *cobra.Command, args []string) error {
			var wanted []wantedImage
			for _, arg := range args {
				images, err := imagesOf(cmd.Context(), arg)
				if err != nil {
					return err
				}
				wanted = append(wanted, images...)
			}
			var failed int
			for _, im := range wanted {
				if err := e.prefetch(cmd.Context(), im); err != nil {
					if cmd.Context().Err() != nil {
						return withCode(exitInterrupted, errors.New("interrupted; what has been fetched stays"))
					}
					fmt.Fprintf(e.stderr, "vmcastfs: %s: %v\n", im.path, err)
					failed++
				}
			}
			if failed > 0 {
				return withCode(exitFailed, fmt.Errorf("%d of %d images failed", failed, len(wanted)))
			}
			return nil
		},
	}
}

// wantedImage is an image of a mount.
type wantedImage struct {
	mount         mountStatus
	release, file string
	path          string
	size          int64 // bytes; negative: not known yet
}

// imagesOf finds the images that DIR/RELEASE or DIR/RELEASE/IMAGE means.
func imagesOf(ctx context.Context, arg string) ([]wantedImage, error) {
	m, err := liveMount(ctx, arg)
	if err != nil {
		return nil, err
	}
	release, file, err := m.find(ctx, arg)
	if err != nil {
		return nil, err
	}
	one := file != ""
	if err := m.mustLook(ctx); err != nil {
		return nil, err
	}
	var images []wantedImage
	for _, r := range m.Status.Releases {
		for _, f := range r.Files {
			if r.Name == release && (f.Image && !one || one && f.Name == file && (f.Image || f.Parts != nil)) {
				images = append(images, wantedImage{m, release, f.Name, filepath.Join(m.Dir, release, f.Name), f.Size})
			}
		}
	}
	if len(images) == 0 {
		return nil, withCode(exitFailed, fmt.Errorf("%s holds no images", arg))
	}
	return images, nil
}

// now is the image's state.
func (w *wantedImage) now(ctx context.Context) (image.Status, bool) {
	m := w.mount
	if m.look(ctx); m.Status == nil {
		return image.Status{}, false
	}
	for _, r := range m.Status.Releases {
		for _, f := range r.Files {
			if r.Name == w.release && f.Name == w.file {
				return f, true
			}
		}
	}
	return image.Status{}, false
}

// progress is how much of the image is local, by what the file itself says: the
// status of the whole mount is made once a second only.
func (w *wantedImage) progress() (f image.Status, ok bool) {
	info, err := os.Stat(w.path)
	if err != nil {
		return f, false
	}
	f.Size, f.State = info.Size(), attr(w.path, "state")
	f.CachedBytes, err = strconv.ParseInt(attr(w.path, "cached_bytes"), 10, 64)
	if err != nil || f.Size == 0 {
		return f, false
	}
	f.Percent = 100 * float64(f.CachedBytes) / float64(f.Size)
	return f, true
}

const prefetchPoll = 200 * time.Millisecond

func (e *env) prefetch(ctx context.Context, w wantedImage) error {
	done := make(chan error, 1)
	go func() { // it waits in the kernel, where our context does not reach
		f, err := os.Open(w.path)
		if err == nil {
			err = errors.Join(fs.CompleteFile(f), f.Close())
		}
		done <- err
	}()
	bar := &imageBar{out: terminalOf(e.stderr), label: show.Text(w.release + "/" + w.file)}
	tick := time.NewTicker(prefetchPoll)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return e.prefetched(ctx, &w, bar, err)
		case <-ctx.Done():
			bar.clear()
			return ctx.Err()
		case <-tick.C:
			f, ok := w.progress()
			if ok && f.Percent == 100 && f.State == "partial" {
				f, ok = w.now(ctx) // which says how much has been checked
			}
			if ok {
				bar.show(f)
			}
		}
	}
}

// prefetched says how it ended.
func (e *env) prefetched(ctx context.Context, w *wantedImage, bar *imageBar, err error) error {
	f, known := w.now(ctx)
	bar.clear()
	switch {
	case known && f.State == "corrupt":
		return fmt.Errorf("corrupt: %s", show.Text(f.Note))
	case errors.Is(err, syscall.ENOTTY):
		return errors.New("the process of this mount is too old for prefetch: mount it again")
	case err != nil && known && f.LastError != "":
		return fmt.Errorf("%w: %s", err, show.Text(f.LastError))
	case err != nil:
		return err
	case !known:
		return errors.New("the mount has gone")
	}
	fmt.Fprintf(e.stdout, "%s\t%s\t%s\n", w.path, f.State, humanize.IBytes(uint64(max(f.Size, 0))))
	return nil
}

// imageBar shows on a terminal how far an image is: how much of it is local
// and, once it is all here, how much has been checked. Elsewhere, and until the
// size is known, it shows nothing.
type imageBar struct {
	bar   *progressbar.ProgressBar
	out   *os.File // the terminal, or nil
	label string
	from  int64 // what was local at the beginning, which the rate must not count
}

func (b *imageBar) show(f image.Status) {
	if b.out == nil || f.Size <= 0 {
		return
	}
	at := int64(f.Percent / 100 * float64(f.Size))
	if b.bar == nil {
		b.from = min(at, f.Size-1)
		b.bar = newBar(b.out, b.label, f.Size-b.from)
	}
	if at >= f.Size && f.State == "partial" {
		b.bar.Describe(b.label + ": checking")
		at = b.from + int64(float64(f.Checked)/float64(f.Size)*float64(f.Size-b.from))
	}
	_ = b.bar.Set64(max(0, min(at, f.Size-1)-b.from)) // the end is told in words
}

// clear takes the bar away.
func (b *imageBar) clear() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}
