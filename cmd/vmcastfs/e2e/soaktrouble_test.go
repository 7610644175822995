package e2e

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/origin"
	"vmcastfs/cmd/internal/appliance"
)

// trouble makes it until the time is over, and then makes everything well.
func (s *soak) trouble(length time.Duration) {
	faults := s.faults()
	kill := max(min(20*time.Second, length/4), 4*time.Second)
	end := time.Now().Add(length)
	next := func(mean time.Duration) time.Time { return time.Now().Add(mean/2 + rand.N(mean)) }
	killAt, downAt, swapAt, flipAt, faultAt := time.Now().Add(kill), next(8*time.Second), next(6*time.Second), next(time.Second), time.Now()
	var removers []func()
	version := 0
	for time.Now().Before(end) {
		time.Sleep(50 * time.Millisecond)
		s.sample()
		now := time.Now()
		if now.After(faultAt) { // with other parameters now and then
			for _, remove := range removers {
				remove()
			}
			removers = removers[:0]
			for _, f := range faults() {
				removers = append(removers, s.origin.Inject(f))
			}
			faultAt = now.Add(2 * time.Second)
			s.origin.ResetStats() // it keeps a log
		}
		if now.After(flipAt) {
			s.flipBit()
			flipAt = next(time.Second)
		}
		if now.After(swapAt) {
			version++
			s.publish2("turns", s.app.Packages[[]string{"a", "b"}[version%2]])
			swapAt = next(6 * time.Second)
		}
		if now.After(downAt) {
			s.origin.Close()
			time.Sleep(rand.N(1500 * time.Millisecond))
			must(s.t, s.origin.Start())
			downAt = next(8 * time.Second)
		}
		if now.After(killAt) {
			s.end()
			s.start()
			killAt = time.Now().Add(kill)
		}
	}
	for _, remove := range removers {
		remove()
	}
}

// faults returns what makes all faults, together for a fifth of the requests.
func (s *soak) faults() func() []origin.Fault {
	const share = 0.2
	kinds := []origin.Fault{
		{Kind: origin.Truncate}, {Kind: origin.Reset}, {Kind: origin.Stall}, {Kind: origin.Hang}, {Kind: origin.Drop},
		{Kind: origin.DripFeed, Delay: 20 * time.Millisecond}, {Kind: origin.Delay, Delay: 700 * time.Millisecond},
		{Kind: origin.IgnoreRange}, {Kind: origin.RangeOn200}, {Kind: origin.WrongRange}, {Kind: origin.ShortRange},
		{Kind: origin.LongRange}, {Kind: origin.MislabelRange}, {Kind: origin.WrongTotal}, {Kind: origin.StarTotal},
		{Kind: origin.NoRangeHeader}, {Kind: origin.Multipart}, {Kind: origin.GzipEncoding}, {Kind: origin.ChangeETag},
		{Kind: origin.ChangeModTime}, {Kind: origin.NoValidators}, {Kind: origin.Flip},
		{Kind: origin.Status, Status: 503}, {Kind: origin.Status, Status: 500}, {Kind: origin.Status, Status: 404},
		{Kind: origin.Status, Status: 403}, {Kind: origin.Status, Status: 429, RetryAfter: "1"},
		{Kind: origin.Redirect, Value: "?again"}, {Kind: origin.HeaderBomb}, {Kind: origin.Endless},
	}
	return func() []origin.Fault {
		list := slices.Clone(kinds)
		s.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for i := range list {
			f := &list[i]
			f.Path, f.Rate = "/*.xvm", share/float64(len(list))
			f.After = s.rng.Int64N(200_000)
			// Behind what describes the package: a wrong bit there is a wrong
			// manifest, against which only a signature helps.
			f.At = 1<<20 + s.rng.Int64N(soakImage)
		}
		return append(list, origin.Fault{Path: appliance.FeedPath, Kind: origin.Status, Status: 503, Rate: share})
	}
}

// flipBit flips a bit of a file of the cache.
func (s *soak) flipBit() {
	files, _ := filepath.Glob(filepath.Join(s.cache, "files", "*"))
	docs, _ := filepath.Glob(filepath.Join(s.cache, "docs", "*", "*"))
	files = append(files, docs...)
	if len(files) == 0 {
		return
	}
	f, err := os.OpenFile(files[s.rng.IntN(len(files))], os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return
	}
	off := s.rng.Int64N(info.Size())
	if at, err := unix.Seek(int(f.Fd()), off, unix.SEEK_DATA); err == nil {
		off = at // a hole would grow
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], off); err != nil {
		return
	}
	b[0] ^= 1 << s.rng.IntN(8)
	_, _ = f.WriteAt(b[:], off)
}
