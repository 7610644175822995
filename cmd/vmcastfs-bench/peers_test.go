package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// peerPath is where the bare image lies for those who want a directory.
const peerPath = "/peers/"

// peer is another way to read a disk image over HTTP. It gets the bare image,
// which spares it finding the image in the package.
type peer struct {
	name string
	tool string // without it the peer is left out
	// start makes ready, cold, and returns how to replay and how to stop.
	start func(ctx context.Context, b *bench) (replay func() (time.Duration, error), stop func() error, err error)
}

func peers() []peer {
	return []peer{
		{name: "nbdkit curl, readahead, cache", tool: "nbdkit", start: startNbdkit},
		{name: "rclone mount, cache full", tool: "rclone", start: startRclone},
		{name: "QEMU http driver", tool: "qemu-io", start: startQEMU},
		{name: "httpdirfs, cache", tool: "httpdirfs", start: startHTTPDirFS},
		{name: "casync mount", tool: "casync", start: startCasync},
		{name: "download whole, then boot", tool: "curl", start: startDownload},
	}
}

// peerTests replay the boot by each peer there is.
func (b *bench) peerTests(n network, name string) (tests []test) {
	for _, p := range peers() {
		tests = append(tests, test{name + ", peer " + p.name, func(ctx context.Context) ([]result, error) {
			r := result{Test: name, Subject: p.name, Unit: "s", Against: "vmcastfs, cold"}
			if _, err := exec.LookPath(p.tool); err != nil {
				r.Note = "not installed"
				return []result{r}, nil
			}
			b.site.through(n)
			replay, stop, err := p.start(ctx, b)
			if err == nil {
				var m result
				m, err = b.measure("", within(peerLimit, replay))
				r.Value, r.Bytes, r.Requests = m.Value, m.Bytes, m.Requests
				_ = stop()
			}
			if err != nil {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				r.Value, r.Note = 0, "fails: "+lastLine(err.Error())
			}
			return []result{r}, nil
		}})
	}
	return tests
}

// peerLimit is what a replay by a peer may take.
const peerLimit = 5 * time.Minute

// within gives up waiting for do after the limit: a peer that hangs is a result,
// and not the end of the run.
func within(limit time.Duration, do func() (time.Duration, error)) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		type answer struct {
			took time.Duration
			err  error
		}
		done := make(chan answer, 1)
		go func() {
			took, err := do()
			done <- answer{took, err}
		}()
		select {
		case a := <-done:
			return a.took, a.err
		case <-time.After(limit):
			return 0, fmt.Errorf("not done after %v", limit)
		}
	}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s[:min(len(s), 100)]
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return s[:min(len(s), 100)]
}

// daemon starts a program of a peer; stop ends it.
func (b *bench) daemon(name string, args ...string) (stop func() error, ended <-chan error, err error) {
	log, err := os.Create(b.path("peer.log"))
	if err != nil {
		return nil, nil, err
	}
	defer log.Close()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	end := make(chan error, 1)
	go func() { end <- cmd.Wait() }()
	return func() error {
		_ = cmd.Process.Signal(unix.SIGTERM)
		select {
		case <-end:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
		}
		return nil
	}, end, nil
}

// fuse starts a peer that mounts and waits for its mount.
func (b *bench) fuse(ctx context.Context, file string, name string, args ...string) (func() (time.Duration, error), func() error, error) {
	dir := b.path("peer")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	stop, ended, err := b.daemon(name, append(args, dir)...)
	if err != nil {
		return nil, nil, err
	}
	unmount := func() error {
		err := exec.Command("fusermount3", "-u", "-z", dir).Run()
		return errors.Join(err, stop())
	}
	wait, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := waitMounted(wait, dir, ended, b.path("peer.log")); err != nil {
		_ = unmount()
		return nil, nil, err
	}
	return func() (time.Duration, error) { return b.replay(filepath.Join(dir, file)) }, unmount, nil
}

func startRclone(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	cache := b.fresh("peer-cache")
	return b.fuse(ctx, diskName, "rclone", "mount", "--config", "/dev/null", "--cache-dir", cache, "--vfs-cache-mode", "full",
		"--read-only", "--http-url", b.site.URL()+peerPath, ":http:")
}

func startHTTPDirFS(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	cache := b.fresh("peer-cache")
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, nil, err
	}
	return b.fuse(ctx, diskName, "httpdirfs", "-f", "--cache", "--cache-location", cache, b.site.URL()+peerPath)
}

func startNbdkit(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	socket := b.fresh("nbd.sock")
	stop, ended, err := b.daemon("nbdkit", "-f", "-r", "-U", socket, "--filter=readahead", "--filter=cache",
		"curl", b.site.URL()+imagePath, "cache-on-read=true")
	if err != nil {
		return nil, nil, err
	}
	for {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(b.path("peer.log"))
			return nil, nil, errors.New(string(text))
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return func() (time.Duration, error) { return b.replayQEMU(ctx, "nbd+unix:///?socket="+socket) }, stop, nil
}

func startQEMU(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	url := `json:{"driver":"raw","file":{"driver":"http","url":"` + b.site.URL() + imagePath + `"}}`
	return func() (time.Duration, error) { return b.replayQEMU(ctx, url) }, func() error { return nil }, nil
}

// replayQEMU replays with qemu-io, which reads as QEMU would.
func (b *bench) replayQEMU(ctx context.Context, image string) (time.Duration, error) {
	var commands, output bytes.Buffer
	for _, r := range b.trace {
		fmt.Fprintf(&commands, "read %d %d\n", r.Off, r.Len)
	}
	args := []string{"-r"}
	if !strings.HasPrefix(image, "json:") {
		args = append(args, "-f", "raw")
	}
	cmd := exec.CommandContext(ctx, "qemu-io", append(args, image)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = &commands, &output, &output
	began := time.Now()
	err := cmd.Run()
	took := time.Since(began)
	if n := strings.Count(output.String(), "ops; "); err == nil && n != len(b.trace) {
		err = fmt.Errorf("%d of %d reads worked: %s", n, len(b.trace), firstLine(output.String()))
	}
	return took, err
}

func startDownload(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	file := b.fresh("downloaded.img")
	return func() (time.Duration, error) {
		began := time.Now()
		if out, err := exec.CommandContext(ctx, "curl", "-sS", "-f", "-o", file, b.site.URL()+imagePath).CombinedOutput(); err != nil {
			return 0, fmt.Errorf("curl: %w: %s", err, out)
		}
		if _, err := b.replay(file); err != nil {
			return 0, err
		}
		return time.Since(began), nil
	}, func() error { return os.Remove(b.path("downloaded.img")) }, nil
}

// casyncPath is where the chunks and the index lie.
const casyncPath = "/casync/"

// startCasync mounts a casync archive of a directory that holds the image:
// its mount of a bare image needs a kernel with nbd.
func startCasync(ctx context.Context, b *bench) (func() (time.Duration, error), func() error, error) {
	store := b.path("casync")
	if _, err := os.Stat(filepath.Join(store, "image.caidx")); err != nil {
		source := b.fresh("casync-source")
		if err := errors.Join(os.MkdirAll(source, 0o755), os.MkdirAll(store, 0o755),
			os.Link(b.site.image.Name(), filepath.Join(source, diskName))); err != nil {
			return nil, nil, err
		}
		b.say("casync: making the chunks")
		out, err := exec.CommandContext(ctx, "casync", "make", "--without=all", "--compression=zstd",
			"--store="+filepath.Join(store, "default.castr"), filepath.Join(store, "image.caidx"), source).CombinedOutput()
		if err != nil {
			return nil, nil, fmt.Errorf("casync make: %w: %s", err, out)
		}
	}
	if err := b.site.putTree(casyncPath, store); err != nil {
		return nil, nil, err
	}
	return b.fuse(ctx, diskName, "casync", "mount", "--store="+b.site.URL()+casyncPath+"default.castr",
		"--cache="+b.fresh("peer-cache"), b.site.URL()+casyncPath+"image.caidx")
}
