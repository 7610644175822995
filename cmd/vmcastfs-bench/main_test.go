package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/boottrace"
)

// TestMain measures if it has arguments of ours; else it runs the tests.
func TestMain(m *testing.M) {
	flag.Parse()
	if flag.NArg() == 0 {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, flag.Args(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// bench is one run of all.
type bench struct {
	dir    string // for caches, the mount point, the image
	binary string // vmcastfs
	site   *site
	trace  []boottrace.Read
	peers  bool
	mounts int      // made so far
	rack   *rackNet // nil: no test wants it
	stderr io.Writer
}

// test is one line of the plan; each run of it gives results.
type test struct {
	name string
	run  func(ctx context.Context) ([]result, error)
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	binary := flags.String("binary", "vmcastfs", "the vmcastfs to measure")
	dir := flags.String("dir", "", "work in `DIR` and leave the image there (default: a temporary directory)")
	runs := flags.Int("runs", 3, "repeat everything `N` times and show medians")
	only := flags.String("only", "", "run only tests whose name matches `REGEXP`")
	list := flags.Bool("list", false, "print the names of the tests and exit")
	asJSON := flags.Bool("json", false, "print JSON instead of a table")
	withPeers := flags.Bool("peers", false, "measure other programs too, those that are installed")
	check := flags.Bool("check", false, "fail if a target is missed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	b := &bench{dir: *dir, peers: *withPeers, stderr: stderr}
	var tests []test
	for _, t := range b.plan() {
		if wanted.MatchString(t.name) {
			tests = append(tests, t)
		}
	}
	if *list {
		for _, t := range tests {
			fmt.Fprintln(stdout, t.name)
		}
		return nil
	}
	if *runs < 1 || len(tests) == 0 {
		return errors.New("nothing to run")
	}
	if b.trace, err = boottrace.Reads(); err != nil {
		return err
	}
	if b.binary, err = exec.LookPath(*binary); err != nil {
		return err
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if b.dir == "" {
		if b.dir, err = os.MkdirTemp("", "vmcastfs-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(b.dir)
	} else if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	debug.SetGCPercent(400) // the origin shares two cores with what is measured
	b.say("preparing the image")
	image := filepath.Join(b.dir, "image.raw")
	if err := makeImage(image); err != nil {
		return err
	}
	address := ""
	if slices.ContainsFunc(tests, func(t test) bool { return strings.HasPrefix(t.name, "rack") }) {
		if b.rack, err = newRackNet(); err != nil {
			return err
		}
		defer b.rack.close()
		address = rackAddress
	}
	if b.site, err = newSite(image, address); err != nil {
		return err
	}
	defer b.site.close()
	defer b.cleanUp()

	all := make([][]result, *runs)
	for i := range all {
		for _, t := range tests {
			results, err := t.run(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			for _, r := range results {
				b.say("run %d of %d: %s: %s: %s, %.1f MB", i+1, *runs, r.Test, r.Subject, value(r.Value, r.Unit), float64(r.Bytes)/1e6)
			}
			all[i] = append(all[i], results...)
		}
	}
	rows := summary(all)
	if *asJSON {
		err = writeJSON(stdout, machine(), *runs, rows)
	} else {
		err = writeTable(stdout, machine(), *runs, rows)
	}
	missed := 0
	for _, r := range rows {
		if r.Missed {
			missed++
		}
	}
	if *check && missed > 0 {
		return errors.Join(err, fmt.Errorf("%d targets missed", missed))
	}
	return err
}

// plan is every test, in order.
func (b *bench) plan() []test {
	var tests []test
	for _, x := range []struct {
		n                   network
		cold, profiled, own *target
	}{
		{wan, &target{Most: 7, Bytes: 80e6}, &target{Most: 4, Bytes: 48e6}, &target{Most: 2, Bytes: 20e6}},
		{lan, &target{Most: 0.8, Bytes: 80e6}, &target{Most: 0.6, Bytes: 48e6}, &target{Most: 0.5, Bytes: 20e6}},
	} {
		boot := b.bootTests(x.n, x.cold, x.profiled)
		name := boot[0].name
		tests = append(tests, boot[0], test{name + ", own package", func(ctx context.Context) ([]result, error) {
			return b.own(ctx, x.n, name, x.own)
		}})
		if b.peers {
			tests = append(tests, b.peerTests(x.n, name)...)
		}
		tests = append(tests, boot[1:]...)
	}
	for _, x := range []struct {
		n    network
		size int64
	}{{wan, 128 << 20}, {lan, imageSize}} {
		name := fmt.Sprintf("read %d MiB from the start, %s, cold", x.size>>20, x.n.name)
		tests = append(tests, test{name, func(ctx context.Context) ([]result, error) { return b.readCold(ctx, x.n, x.size, name) }})
	}
	return slices.Concat(tests, b.nextTests(), b.warmTests(), b.growthTests(), b.rackTests())
}

// path is a place in the working directory.
func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.stderr, format+"\n", args...) }

// curl fetches the first size bytes of a path of the site.
func (b *bench) curl(ctx context.Context, path string, size int64) (time.Duration, error) {
	began := time.Now()
	cmd := exec.CommandContext(ctx, "curl", "-sS", "-f", "-o", "/dev/null", "-r", fmt.Sprintf("0-%d", size-1), b.site.URL()+path)
	cmd.Stderr = b.stderr
	err := cmd.Run()
	return time.Since(began), err
}

// cleanUp leaves nothing but the image.
func (b *bench) cleanUp() {
	for _, name := range []string{"cache", "cache-state", "mnt", "mount.log", "warm", "warm-state",
		"peer", "peer.log", "peer-cache", "nbd.sock", "boot.profile", "own.xvm", "own.profile", "xvm.xml", diskName,
		"own-2.xvm", "next", "casync", "casync-source", "downloaded.img", "raw.xvm"} {
		_ = os.RemoveAll(b.path(name))
	}
}

// machine says what the figures belong to.
func machine() string {
	var u unix.Utsname
	kernel := "unknown kernel"
	if unix.Uname(&u) == nil {
		kernel = cString(u.Sysname[:]) + " " + cString(u.Release[:])
	}
	return fmt.Sprintf("%s, %d cores, %s, %s", kernel, runtime.NumCPU(), runtime.Version(), time.Now().Format(time.DateOnly))
}

func cString(b []byte) string { s, _, _ := strings.Cut(string(b), "\x00"); return s }
