package bundle

import (
	"context"
	"log/slog"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/image"
)

// These bound what is inflated by itself, at a release's first use, so that a
// directory lists the plain names too. Larger members are sized when their plain
// name is first asked for.
const (
	sizeAtOnce     = 4 << 20  // stored bytes of a member sized before the directory is shown
	sizeBackground = 64 << 20 // ... and behind it
	// A block list tells sizes without anything being inflated, so lists of so
	// many times the bytes are read.
	sizeListShare = 16
	// Little can be inflated to very much, and there may be thousands of it.
	sizeTime           = 5 * time.Second // for all of a release before its directory is shown
	sizeBackgroundTime = 2 * time.Minute // ... and behind it
	sizeFaults         = 8               // told of in the log, for a release
)

// findSizes looks whether compressed members can be inflated here, and sizes the
// small ones, as far as the time reaches. It returns those that are to be sized
// behind the directory.
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
		cost := im.Base().Size()
		if text, ok := im.Listed(); ok {
			cost = text / sizeListShare
		}
		if cost <= sizeAtOnce && ctx.Err() == nil && !findSize(ctx, im, log, &faults) || cost > sizeAtOnce && cost <= sizeBackground {
			rest = append(rest, f)
		}
	}
	l.addDecodable(decodable)
	return rest
}

// findRest sizes files behind the directory, and says so after each. It returns
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
