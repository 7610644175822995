package bundle

import (
	"context"
	"log/slog"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
)

// These bound what is inflated by itself, once a file of the release has been opened,
// so that the directory lists the plain names too. A listing inflates only members that
// cost about what a header costs. Larger ones are sized when their plain name is first
// asked for.
const (
	sizeAtOnce     = 256 << 10 // stored bytes of a member sized before the directory is shown
	sizeBackground = 64 << 20  // ... and behind an open
	// A block list tells sizes without anything being inflated, so lists of so
	// many times the bytes are read. A listing waits for those of sizeList bytes.
	sizeListShare = 16
	sizeList      = 64 << 20
	// Little can be inflated to very much, and there may be thousands of it.
	sizeTime           = 5 * time.Second // for all of a release before its directory is shown
	sizeBackgroundTime = 2 * time.Minute // ... and behind an open
	sizeFaults         = 8               // told of in the log, for a release
)

// findSizes looks whether compressed members can be inflated, and finds the sizes that
// can be had without much of a member, as far as the time reaches. It returns those that
// are to be sized once a file has been opened.
func findSizes(ctx context.Context, files []*File, l *learned, log *slog.Logger) (rest []*File) {
	ctx, cancel := context.WithTimeout(ctx, sizeTime)
	defer cancel()
	faults := 0
	var decodable []string
	for _, f := range files {
		im := f.image()
		if im == nil {
			continue
		}
		if f.refused() == nil && !l.decodable(f.name) {
			seen, err := im.CheckDecodable(ctx)
			if err != nil {
				warnOfSize(err, log, &faults)
				continue
			}
			if seen {
				decodable = append(decodable, f.name)
			}
		}
		if f.Size() != store.Unknown {
			continue
		}
		text, listed := im.Listed()
		if ctx.Err() == nil && (!listed || text <= sizeList) {
			known, err := im.ProveSize(ctx)
			if known {
				continue
			}
			if err != nil && ctx.Err() == nil {
				warnOfSize(err, log, &faults)
				continue
			}
		}
		cost := im.Base().Size()
		if cost <= sizeAtOnce && ctx.Err() == nil && findSize(ctx, im, log, &faults) {
			continue
		}
		if cost <= sizeBackground || listed && text <= sizeListShare*sizeBackground {
			rest = append(rest, f)
		}
	}
	l.addDecodable(decodable)
	return rest
}

// findRest sizes files behind an open, and says so after each. It returns
// early if the time is too short.
func findRest(ctx context.Context, files []*File, log *slog.Logger, found func()) {
	ctx, cancel := context.WithTimeout(ctx, sizeBackgroundTime)
	defer cancel()
	faults := 0
	for _, f := range files {
		if !findSize(ctx, f.image(), log, &faults) {
			return
		}
		found()
	}
}

// findSize sizes one image; false if the time was too short.
func findSize(ctx context.Context, im *image.Image, log *slog.Logger, faults *int) bool {
	_, err := im.FindSize(ctx)
	if err != nil && ctx.Err() != nil {
		return false
	}
	if err != nil {
		warnOfSize(err, log, faults)
	}
	return true
}

func warnOfSize(err error, log *slog.Logger, faults *int) {
	if *faults++; *faults <= sizeFaults {
		log.Warn("the plain size is not known", "err", err)
	}
}
