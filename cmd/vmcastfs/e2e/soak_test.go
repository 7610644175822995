package e2e

import (
	"bytes"
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
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/boottrace"
	"vmcastfs/cache/testkit"
	"vmcastfs/fs"
)

// The soak: everything goes wrong at the same time, for as long as
// VMCASTFS_SOAK says (a minute in CI, a quarter of that otherwise). An origin
// makes one request in five fail, in every way it knows, goes away now and
// then, changes its validators and replaces an archive; the daemon is killed
// and mounted again; the cache may hold a quarter of what is read, and bits of
// its files are flipped. Sixteen readers replay a recorded boot and compare
// every byte.
//
// Reads may fail. None may return a wrong byte, mix two generations, or take
// longer than what soft and timeo allow.

const (
	soakImage   = 32 << 20 // of each of the raw images
	soakReaders = 16
	soakTimeo   = 5 * time.Second
	// soakRead bounds one read: it may wait for its own fetch, and once more
	// for another's that it joined; the rest is for a busy machine.
	soakRead = 4 * soakTimeo
	// soakOpen bounds an open, which may have to index the release first.
	soakOpen = 45 * time.Second
)

type soak struct {
	*world
	t      *testing.T
	rng    *rand.Rand // of the goroutine that makes trouble
	daemon *exec.Cmd
	ended  <-chan error // of the daemon
	stderr string
	trace  []boottrace.Read
	images map[string][][]byte // by path in the mount: the contents ever published

	stop    chan struct{}
	reads   atomic.Int64
	bytes   atomic.Int64
	failed  atomic.Int64
	wrong   atomic.Int64
	slowest struct {
		sync.Mutex
		read, open, look time.Duration
	}
	errs     sync.Map // error text → *atomic.Int64
	peakRSS  int64
	peakFDs  int
	peakThrd int
	mounting time.Duration
}

func TestSoak(t *testing.T) {
	length := 15 * time.Second
	if os.Getenv("CI") == "true" {
		length = 40 * time.Second
	}
	if text := os.Getenv("VMCASTFS_SOAK"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		length = d
	}
	t.Parallel()
	s := &soak{world: bareWorld(t), t: t, rng: rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 1)), stop: make(chan struct{})}
	s.stderr = filepath.Join(t.TempDir(), "stderr")
	var err error
	if s.trace, err = boottrace.Reads(); err != nil {
		t.Fatal(err)
	}
	s.publishImages()
	s.start()
	t.Cleanup(func() {
		s.end()
		_ = fs.UnmountDir(s.dir, true)
		if t.Failed() {
			if log, err := os.ReadFile(s.stderr); err == nil {
				t.Logf("the daemon's last words:\n%s", log[max(0, len(log)-4000):])
			}
		}
	})

	var readers sync.WaitGroup
	for i := range soakReaders {
		readers.Go(func() { s.read(i) })
	}
	readers.Go(s.look)
	s.trouble(length)
	close(s.stop)
	stopped := make(chan struct{})
	go func() { readers.Wait(); close(stopped) }()
	testkit.Receive(t, "no reader waits once everything is well again", soakOpen+soakRead, stopped)
	s.afterwards()
	s.report(length)
}

// publishImages makes three releases with block lists: a raw image, a
// compressed one, and a raw one of which two versions replace each other.
func (s *soak) publishImages() {
	dir := s.t.TempDir()
	packed := func(content []byte, compress string) []byte {
		description := filepath.Join(dir, "xvm.xml")
		must(s.t, os.WriteFile(description, []byte(`<xvm><name>soak</name><disk file="disk.img" target="vda"/></xvm>`), 0o644))
		must(s.t, os.WriteFile(filepath.Join(dir, "disk.img"), content, 0o644))
		out := filepath.Join(dir, "out.xvm")
		_ = os.Remove(out)
		if text, err := command(s.t, dir, binary, "pack", "-o", out, "--compress", compress, "xvm.xml", "disk.img"); err != nil {
			s.t.Fatalf("pack: %v\n%s", err, text)
		}
		return readAll(s.t, out)
	}
	raw, zipped := noise(soakImage, 70), lines(soakImage/2, 7)
	a, b := noise(soakImage, 71), noise(soakImage, 72)
	s.images = map[string][][]byte{"raw/disk.img": {raw}, "zipped/disk.img": {zipped}, "turns/disk.img": {a, b}}
	s.publish("raw", packed(raw, "none"))
	s.publish("zipped", packed(zipped, "gzip"))
	s.app.Packages["a"], s.app.Packages["b"] = packed(a, "none"), packed(b, "none")
	s.publish("turns", s.app.Packages["a"])
}

// start mounts in the foreground, as a child of the test.
func (s *soak) start() {
	s.t.Helper()
	began := s.now()
	for !s.mountOnce() {
		// The last good feed may be lost to a flipped bit, and the server
		// refuse: then mounting fails, and who mounts tries again.
		if s.now()-began > 30*time.Second {
			s.t.Fatal("not mounted within 30 s")
		}
	}
}

// mountOnce reports whether the mount answers; else the daemon has ended.
func (s *soak) mountOnce() bool {
	s.t.Helper()
	log, err := os.OpenFile(s.stderr, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	must(s.t, err)
	defer log.Close()
	began := s.now()
	// Passthrough is off because with it the kernel reads the cache's files by
	// itself, and nobody looks at the bits that are flipped there.
	limit := (3*soakImage + soakImage/2) / 4
	s.daemon = exec.Command(binary, "mount", "-f", "-o", s.options("soft", "timeo="+soakTimeo.String(), "stall=1s",
		"refresh=3s", "passthrough=off", fmt.Sprint("cache_size=", limit)), s.feed, s.dir)
	s.daemon.Stdout, s.daemon.Stderr = log, log
	must(s.t, s.daemon.Start())
	ended := make(chan error, 1)
	go func() { ended <- s.daemon.Wait() }()
	s.ended = ended
	for s.now()-began < 30*time.Second {
		if _, err := os.ReadFile(s.path(".vmcastfs/status.json")); err == nil {
			s.mounting = max(s.mounting, s.now()-began)
			return true
		}
		select {
		case <-ended:
			s.daemon = nil
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.t.Fatal("the mount does not answer")
	return false
}

func (s *soak) end() {
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Process.Kill()
	<-s.ended
	s.daemon = nil
}

// sample remembers what the daemon holds.
func (s *soak) sample() {
	dir := fmt.Sprintf("/proc/%d/", s.daemon.Process.Pid)
	if fds, err := os.ReadDir(dir + "fd"); err == nil {
		s.peakFDs = max(s.peakFDs, len(fds))
	}
	status, _ := os.ReadFile(dir + "status")
	for line := range strings.Lines(string(status)) {
		var n int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &n); err == nil {
			s.peakRSS = max(s.peakRSS, n<<10)
		}
		if _, err := fmt.Sscanf(line, "Threads: %d", &n); err == nil {
			s.peakThrd = max(s.peakThrd, int(n))
		}
	}
}

// read replays the trace over one image after the other.
func (s *soak) read(number int) {
	rng := rand.New(rand.NewPCG(uint64(number), 2))
	names := []string{"raw/disk.img", "zipped/disk.img", "turns/disk.img"}
	for turn := number; ; turn++ {
		select {
		case <-s.stop:
			return
		default:
		}
		name := names[turn%len(names)]
		flags := os.O_RDONLY
		if number%2 == 0 {
			flags |= syscall.O_DIRECT
		}
		began := s.now()
		f, err := os.OpenFile(s.path(name), flags, 0)
		s.took(&s.slowest.open, began, soakOpen, "open of "+name)
		if err != nil {
			s.fail(err)
			time.Sleep(50 * time.Millisecond)
			continue
		}
		s.replay(f, name, rng)
		f.Close()
	}
}

// replay reads a stretch of the trace from one open file, all of which must
// come from one version of the image.
func (s *soak) replay(f *os.File, name string, rng *rand.Rand) {
	candidates := slices.Clone(s.images[name])
	if info, err := f.Stat(); err != nil || info.Size() != int64(len(candidates[0])) {
		if err == nil {
			s.t.Errorf("%s has %d bytes", name, info.Size())
		}
		return
	}
	size := int64(len(candidates[0]))
	buf := aligned(1 << 20)
	for i := rng.IntN(len(s.trace)); i < len(s.trace); i++ {
		select {
		case <-s.stop:
			return
		default:
		}
		off := s.trace[i].Off * size / boottrace.ImageSize &^ 4095
		want := min(max(s.trace[i].Len, 4096), size-off, int64(len(buf)))
		began := s.now()
		n, err := f.ReadAt(buf[:want], off)
		s.took(&s.slowest.read, began, soakRead, fmt.Sprintf("read of %d bytes of %s at %d", want, name, off))
		s.reads.Add(1)
		s.bytes.Add(int64(n))
		got := buf[:n]
		candidates = slices.DeleteFunc(candidates, func(c []byte) bool { return !bytes.Equal(got, c[off:off+int64(n)]) })
		if len(candidates) == 0 {
			s.wrong.Add(1)
			s.t.Errorf("%s: %d bytes at %d are wrong, or of another generation than those before", name, n, off)
			return
		}
		if err != nil && !errors.Is(err, io.EOF) {
			s.fail(err)
			if !errors.Is(err, syscall.EIO) || rng.IntN(4) == 0 {
				return // open it anew: the generation may be gone, or the daemon
			}
		}
	}
}

// took notes a duration, which must not be longer than the limit.
func (s *soak) took(most *time.Duration, began, limit time.Duration, what string) {
	d := s.now() - began
	s.slowest.Lock()
	defer s.slowest.Unlock()
	*most = max(*most, d)
	if d > limit {
		s.t.Errorf("%s took %s", what, d)
	}
}

// fail counts an error. Allowed are those of a network that is gone, and of a
// daemon that is.
func (s *soak) fail(err error) {
	s.failed.Add(1)
	var errno syscall.Errno
	errors.As(err, &errno)
	switch errno {
	case syscall.EIO, syscall.ENOTCONN, syscall.ENOENT, syscall.ECONNABORTED, syscall.ESTALE, syscall.EINTR, syscall.ENODEV:
	default:
		s.t.Errorf("an error that should not be: %v", err)
	}
	n, _ := s.errs.LoadOrStore(errno.Error(), new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
}

// look looks at the mount as an admin would.
func (s *soak) look() {
	for {
		select {
		case <-s.stop:
			return
		case <-time.After(300 * time.Millisecond):
		}
		began := s.now()
		_, _ = os.ReadDir(s.dir)
		_ = unix.Statfs(s.dir, new(unix.Statfs_t))
		_, _ = os.ReadFile(s.path(".vmcastfs/status.json"))
		s.took(&s.slowest.look, began, 10*time.Second, "ls, df and status")
	}
}

// afterwards: with everything well again all is as it was published, and the
// daemon holds nothing that it needs no more.
func (s *soak) afterwards() {
	s.sample()
	for name, contents := range s.images {
		ok := false
		var last error
		for end := s.now() + 90*time.Second; !ok && s.now() < end; {
			got, err := os.ReadFile(s.path(name))
			if last = err; err != nil {
				time.Sleep(500 * time.Millisecond)
				continue
			}
			ok = slices.ContainsFunc(contents, func(c []byte) bool { return bytes.Equal(c, got) })
			if !ok {
				s.t.Errorf("%s: afterwards it is something else", name)
				break
			}
		}
		if !ok {
			s.t.Errorf("%s: cannot be read when everything is well again: %v", name, last)
		}
	}
	time.Sleep(2 * time.Second)
	fds, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.daemon.Process.Pid))
	if len(fds) > 100 {
		s.t.Errorf("%d descriptors are open with no file in use", len(fds))
	}
	must(s.t, s.daemon.Process.Signal(syscall.SIGQUIT)) // the runtime dumps all goroutines and ends
	<-s.ended
	s.daemon = nil
	dump, err := os.ReadFile(s.stderr)
	must(s.t, err)
	goroutines := bytes.Count(dump, []byte("\ngoroutine "))
	if goroutines == 0 || goroutines > 100 {
		s.t.Errorf("%d goroutines are left with no file in use", goroutines)
	}
	s.t.Logf("at rest: %d descriptors, %d goroutines", len(fds), goroutines)
}

func (s *soak) report(length time.Duration) {
	var errs []string
	s.errs.Range(func(k, v any) bool {
		errs = append(errs, fmt.Sprintf("%s %d", k, v.(*atomic.Int64).Load()))
		return true
	})
	s.t.Logf("%s: %d reads, %d MiB, %d wrong, %d failed (%s); slowest read %s, open %s, look %s, mount %s; at most %d MiB resident, %d descriptors, %d threads",
		length, s.reads.Load(), s.bytes.Load()>>20, s.wrong.Load(), s.failed.Load(), strings.Join(errs, ", "),
		s.slowest.read.Round(time.Millisecond), s.slowest.open.Round(time.Millisecond), s.slowest.look.Round(time.Millisecond),
		s.mounting.Round(time.Millisecond), s.peakRSS>>20, s.peakFDs, s.peakThrd)
	limit := int64(192 << 20)
	if raceEnabled {
		limit *= 5
	}
	if s.peakRSS > limit {
		s.t.Errorf("%d bytes were resident", s.peakRSS)
	}
	if s.peakFDs > 400 {
		s.t.Errorf("%d descriptors were open", s.peakFDs)
	}
	if s.reads.Load() < 1000 {
		s.t.Errorf("only %d reads", s.reads.Load())
	}
}
