package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"vmcastfs/cache/boottrace"
	"vmcastfs/cache/origin"
	"vmcastfs/cmd/internal/rackcache"
	"vmcastfs/feed"
)

// The raw image in a package with a block list.
const (
	rawFeed    = "/raw.xml"
	rawPackage = "/raw.xvm"
)

// A shift is what one group of hosts does.
type shift struct {
	subject string
	cache   string // direct, absent, liar, or a kind of rackcache.Programs
	packed  bool   // the package with compressed blocks and a profile
	hosts   int
	spread  time.Duration  // over which the hosts begin
	unlike  bool           // each reads in another order
	warm    bool           // the mirror has seen a host
	signal  syscall.Signal // to the mirror, 3 s after the first host began
	against string
	target  *target
}

// rackTests boot hosts through a mirror, cold.
func (b *bench) rackTests() []test {
	const alone, packedAlone, many = "1 host, direct", "1 host, direct, packed", "8 hosts, direct"
	// A rack has 1.1 of one host's bytes, or 1.3 of a packed release.
	const rackBytes, packedBytes = 58_000_000, 23_000_000
	rack, packed := &target{MaxRatio: 1.2, Bytes: rackBytes}, &target{Most: 3, Bytes: packedBytes}
	shifts := []shift{{subject: alone, cache: "direct", hosts: 1}, {subject: packedAlone, cache: "direct", hosts: 1, packed: true},
		{subject: "1 host, no mirror there", cache: "absent", hosts: 1, against: alone, target: &target{MaxRatio: 1.05}},
		{subject: "1 host, a liar", cache: "liar", hosts: 1, against: alone, target: &target{MaxRatio: 1.3}},
		{subject: many, cache: "direct", hosts: 8, against: alone},
		{subject: "8 hosts, a liar", cache: "liar", hosts: 8, against: many, target: &target{MaxRatio: 1.3}},
	}
	for _, kind := range []string{"nginx", "trafficserver"} {
		shifts = append(shifts,
			shift{subject: "1 host, " + kind, cache: kind, hosts: 1, against: alone, target: &target{MaxRatio: 1.1}},
			shift{subject: "4 hosts, " + kind, cache: kind, hosts: 4, against: alone, target: rack},
			shift{subject: "8 hosts, " + kind, cache: kind, hosts: 8, against: alone, target: rack},
			shift{subject: "8 hosts, unlike, " + kind, cache: kind, hosts: 8, unlike: true, against: alone, target: rack},
			shift{subject: "8 hosts, unlike, within 5 s, " + kind, cache: kind, hosts: 8, unlike: true, spread: 5 * time.Second, against: alone, target: rack},
			shift{subject: "8 hosts, warm, " + kind, cache: kind, hosts: 8, warm: true, against: alone, target: &target{MaxRatio: 1}},
			shift{subject: "1 host, packed, " + kind, cache: kind, hosts: 1, packed: true, against: packedAlone},
			shift{subject: "8 hosts, packed, " + kind, cache: kind, hosts: 8, packed: true, against: packedAlone, target: packed},
			shift{subject: "8 hosts, packed, within 5 s, " + kind, cache: kind, hosts: 8, packed: true, spread: 5 * time.Second, against: packedAlone, target: packed},
			shift{subject: "4 hosts, killed after 3 s, " + kind, cache: kind, hosts: 4, signal: syscall.SIGKILL, against: alone, target: &target{Most: 17.8}},
			shift{subject: "4 hosts, stopped after 3 s, " + kind, cache: kind, hosts: 4, signal: syscall.SIGSTOP, against: alone, target: &target{Most: 21.2}},
		)
	}
	var tests []test
	for _, s := range shifts {
		tests = append(tests, test{"rack, " + s.subject, func(ctx context.Context) ([]result, error) {
			r, err := b.rackShift(ctx, s)
			r.Test, r.Subject, r.Against, r.Target = "rack", s.subject, s.against, s.target
			return []result{r}, err
		}})
	}
	return tests
}

// rackShift boots the hosts of a shift, each with a cache of its own, and tells how long the
// slowest took.
func (b *bench) rackShift(ctx context.Context, s shift) (r result, err error) {
	feedPath, path := rawFeed, rawPackage
	if s.packed {
		feedPath, path = ownFeed, ownPackage
		err = b.pack(ctx)
	} else {
		err = b.packRaw(ctx)
	}
	if err != nil {
		return r, err
	}
	b.site.through(wan)
	var options []string
	var mirror *rackcache.Cache
	switch s.cache {
	case "direct":
	case "absent":
		options = []string{"mirror=http://" + rackAddress + ":9"}
	case "liar":
		liar, url, lerr := b.liar(path)
		if lerr != nil {
			return r, lerr
		}
		defer liar.Close()
		options = []string{"mirror=" + url}
	default:
		dir, derr := os.MkdirTemp("", "vmcastfs-rack-")
		if derr != nil {
			return r, derr
		}
		defer os.RemoveAll(dir)
		if mirror, err = rackcache.Start(ctx, b.binary, s.cache, dir, rackAddress, nil, b.site.URL()); err != nil {
			return r, err
		}
		defer mirror.Stop()
		options = []string{"mirror=" + mirror.URL}
	}
	if s.warm {
		if _, err := b.rackBoot(ctx, shift{hosts: 1}, feedPath, options, nil); err != nil {
			return r, err
		}
	}
	var all booted
	r, err = b.measure(path, func() (time.Duration, error) {
		var err error
		all, err = b.rackBoot(ctx, s, feedPath, options, mirror)
		if err != nil {
			return 0, err
		}
		slices.Sort(all.took)
		return all.took[len(all.took)-1], nil
	})
	r.Note = fmt.Sprintf("slowest read %.2f s", all.worst.Seconds())
	if n := len(all.took); n > 1 {
		r.Note += fmt.Sprintf(", fastest host %.1f s, median %.1f s", all.took[0].Seconds(), all.took[n/2].Seconds())
	}
	if s.cache == "liar" {
		r.Note += fmt.Sprintf(", wrong blocks of a host: %d", all.wrong)
	}
	return r, err
}

// booted is how the hosts of a shift booted.
type booted struct {
	took  []time.Duration // of each
	worst time.Duration   // the slowest read of all
	wrong int64           // blocks that a host saw that did not match, of the host with the most
}

// rackBoot replays the boot on all hosts.
func (b *bench) rackBoot(ctx context.Context, s shift, feedPath string, options []string, mirror *rackcache.Cache) (out booted, err error) {
	var mounts []*mounted
	for i := range s.hosts {
		m, merr := b.mountOn(ctx, i, feedPath, b.fresh(fmt.Sprint("cache-", i)), options...)
		if merr != nil {
			err = merr
			break
		}
		mounts = append(mounts, m)
	}
	out.took = make([]time.Duration, len(mounts))
	reads, errs := make([]time.Duration, len(mounts)), make([]error, len(mounts))
	if err == nil {
		if s.signal != 0 {
			timer := time.AfterFunc(3*time.Second, func() { mirror.Signal(s.signal) })
			defer timer.Stop()
		}
		var all sync.WaitGroup
		for i, m := range mounts {
			var image io.ReaderAt
			if i == 0 || s.cache == "liar" {
				image = b.site.image
			}
			trace := b.trace
			if s.unlike {
				trace = shuffled(trace, uint64(i))
			}
			all.Go(func() {
				time.Sleep(s.spread * time.Duration(i) / time.Duration(max(1, len(mounts)-1)))
				out.took[i], reads[i], errs[i] = replay(m.image(), trace, image)
			})
		}
		all.Wait()
	}
	for _, m := range mounts {
		var st struct {
			Reads struct {
				WrongBlocks int64 `json:"wrong_blocks"`
			} `json:"reads"`
		}
		text, rerr := os.ReadFile(filepath.Join(m.dir, ".vmcastfs/status.json"))
		err = errors.Join(err, rerr, json.Unmarshal(text, &st))
		out.wrong = max(out.wrong, st.Reads.WrongBlocks)
		err = errors.Join(err, m.unmount())
	}
	out.worst = slices.Max(append(reads, 0))
	return out, errors.Join(append(errs, err)...)
}

// shuffled is a boot in which reads change places with others near by, and one in twenty is
// left out.
func shuffled(trace []boottrace.Read, seed uint64) []boottrace.Read {
	r := rand.New(rand.NewPCG(seed, 7))
	type placed struct {
		boottrace.Read
		at float64
	}
	var list []placed
	for i, x := range trace {
		if r.IntN(20) > 0 {
			list = append(list, placed{x, float64(i) + 20*r.Float64()})
		}
	}
	slices.SortStableFunc(list, func(a, b placed) int {
		if a.at < b.at {
			return -1
		}
		return 1
	})
	out := make([]boottrace.Read, len(list))
	for i, x := range list {
		out[i] = x.Read
	}
	return out
}

// liar is a mirror that has the package, and one block in ten of its image wrong.
func (b *bench) liar(path string) (*origin.Server, string, error) {
	file, err := os.Open(b.path(filepath.Base(path)))
	if err != nil {
		return nil, "", err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, "", err
	}
	s := origin.New()
	origin.ListenOn(s, rackAddress)
	at := "/" + strings.Replace(b.site.URL(), "://", "/", 1) + path
	s.Put(at, lying{file}, info.Size(), published, etagOf(path), "application/x-xvm")
	if err := s.Start(); err != nil {
		return nil, "", err
	}
	return s, s.URL(), nil
}

// lying has a bit wrong in every tenth block. What comes before the image is right, else no block
// would ever be asked for.
type lying struct{ io.ReaderAt }

func (l lying) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.ReaderAt.ReadAt(p, off)
	for i := range p[:n] {
		if at := off + int64(i); at >= 1<<20 && at>>16%10 == 0 && at&0xffff == 4711 {
			p[i] ^= 1
		}
	}
	return n, err
}

// etagOf is that of a package made here.
func etagOf(path string) string { return `"` + strings.Trim(path, "/") + `-1"` }

// packRaw makes a package of the raw image with a block list, once.
func (b *bench) packRaw(ctx context.Context) error {
	file := b.path("raw.xvm")
	if _, err := os.Stat(file); err != nil {
		b.say("packing the raw image")
		description, image := b.path("xvm.xml"), b.path(diskName)
		_ = os.RemoveAll(image)
		if err := errors.Join(os.WriteFile(description, []byte(machineXML), 0o644), os.Link(b.site.image.Name(), image)); err != nil {
			return err
		}
		if out, err := exec.CommandContext(ctx, b.binary, "pack", "-o", file, "--compress", "none", description, image).CombinedOutput(); err != nil {
			return fmt.Errorf("pack: %w: %s", err, out)
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	b.site.Put(rawPackage, lazyFile(file), info.Size(), published, etagOf(rawPackage), "application/x-xvm")
	return b.site.publish(rawFeed, feed.Entry{ID: "raw-1", Title: "machine", URL: b.site.URL() + rawPackage, Length: info.Size(), Published: published})
}
