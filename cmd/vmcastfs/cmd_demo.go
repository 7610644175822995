package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/feed/show"
	"vmcastfs/fs"
)

// demoCommand is `vmcastfs demo [--once]`.
func demoCommand(e *env) *cobra.Command {
	var once bool
	cmd := &cobra.Command{
		Use:   "demo [--once]",
		Short: "serve, mount and boot a small signed appliance made on the spot",
		Long: `demo shows the whole of vmcastfs on this machine: it makes a small signed
appliance, serves it from a loopback address, mounts the feed, shows the tree
and how few bytes crossed the network, and boots the disk from its path if QEMU
is installed. Then it stays mounted until Ctrl-C, for trying things; with
--once it checks every image instead, cleans up and exits, with status 0 only
if every step worked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return e.demo(cmd.Context(), once)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "clean up and exit when everything has been shown")
	return cmd
}

// demo is one run of the demonstration.
type demo struct {
	*env
	app  *appliance.Appliance
	dir  string // mount point
	site *demoSite
}

func (e *env) demo(ctx context.Context, once bool) (err error) {
	tmp, err := os.MkdirTemp("", "vmcastfs-demo-")
	if err != nil {
		return withCode(exitSystem, err)
	}
	defer os.RemoveAll(tmp)
	d := &demo{env: e, dir: filepath.Join(tmp, "mnt")}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return withCode(exitSystem, err)
	}
	defer listener.Close()
	base := "http://" + listener.Addr().String()

	d.step("making a signed appliance of two releases")
	if d.app, err = appliance.Build(base, appliance.Options{Packed: true}, nil); err != nil {
		return withCode(exitInternal, err)
	}
	total := 0
	for _, content := range d.app.Packages {
		total += len(content)
	}
	d.site = newDemoSite(d.app)
	server := &http.Server{Handler: d.site, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(listener) }() // until it is closed
	defer server.Close()
	feedURL := base + appliance.FeedPath
	d.say("serving %s: %d packages, %s", feedURL, len(d.app.Packages), size(int64(total)))

	o := defaultOptions()
	o.Cache, o.State, o.Keyring = filepath.Join(tmp, "cache"), filepath.Join(tmp, "state"), filepath.Join(tmp, "keys.asc")
	o.Sig, o.CacheFree, o.Feed.Complete = "require", 0, once
	if err := errors.Join(os.Mkdir(d.dir, 0o755), os.WriteFile(o.Keyring, d.app.Key, 0o600)); err != nil {
		return withCode(exitSystem, err)
	}
	d.step("vmcastfs mount -o keyring=%s %s %s", o.Keyring, feedURL, d.dir)
	log := slog.New(slog.NewTextHandler(e.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s, err := openSession(ctx, feedURL, o, log)
	if err != nil {
		return err
	}
	defer s.close()
	mounted, err := fs.Mount(ctx, s.catalog, fs.Options{
		Dir: d.dir, Source: feedURL, UID: uint32(o.UID), GID: uint32(o.GID), Umask: o.Umask,
		AllowOther: o.AllowOther, Errors: errorRules(), Logger: log,
	})
	if err != nil {
		return withCode(exitMount, err)
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), unmountGrace)
		defer cancel()
		err = errors.Join(err, mounted.Unmount(end, true))
		<-mounted.Done()
	}()

	if err := d.tree(); err != nil {
		return err
	}
	booted, err := d.boot(ctx)
	if err != nil {
		return err
	}
	if once {
		if err := d.check(); err != nil {
			return err
		}
		d.step("every step worked")
		return nil
	}
	d.step("it stays mounted until Ctrl-C; in another terminal, try")
	disk := filepath.Join(d.dir, "latest", appliance.DiskName)
	fmt.Fprintf(e.stdout, "    ls -l %s/latest/\n", d.dir)
	fmt.Fprintf(e.stdout, "    (cd %s/latest && sha1sum -c manifest.txt 2>/dev/null)\n", d.dir)
	fmt.Fprintf(e.stdout, "    cat %s/.vmcastfs/status.json\n", d.dir)
	if booted {
		fmt.Fprintf(e.stdout, "    qemu-system-x86_64 -nographic -drive file=%s,format=raw,readonly=on,if=virtio\n", disk)
	}
	select {
	case <-ctx.Done():
		fmt.Fprintln(e.stdout)
		d.step("cleaning up")
		return nil
	case <-mounted.Done():
		return nil
	}
}

func (d *demo) step(format string, args ...any) { fmt.Fprintf(d.stdout, "==> "+format+"\n", args...) }
func (d *demo) say(format string, args ...any)  { fmt.Fprintf(d.stdout, "    "+format+"\n", args...) }

func size(n int64) string { return humanize.IBytes(uint64(n)) }

// tree prints what the mount shows.
func (d *demo) tree() error {
	d.step("the tree")
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return withCode(exitFailed, err)
	}
	for _, entry := range entries {
		path := filepath.Join(d.dir, entry.Name())
		if target, err := os.Readlink(path); err == nil {
			d.say("%s -> %s", entry.Name(), target)
			continue
		}
		if !entry.IsDir() {
			d.say("%s", entry.Name())
			continue
		}
		d.say("%s/", entry.Name())
		files, err := os.ReadDir(path)
		if err != nil {
			return withCode(exitFailed, err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil {
				return withCode(exitFailed, err)
			}
			d.say("    %-18s %9s  %s", f.Name(), size(info.Size()), attr(filepath.Join(path, f.Name()), "state"))
		}
	}
	d.network("to mount and list all this")
	return nil
}

// network says how much has crossed it so far.
func (d *demo) network(what string) {
	d.say("%s, %s crossed the network in %d requests", what, size(d.site.sent.Load()), d.site.requests.Load())
}

// boot starts the newest release's disk in QEMU, if that is installed.
func (d *demo) boot(ctx context.Context) (bool, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		d.step("QEMU is not installed (Debian: qemu-system-x86), so nothing is booted")
		return false, nil
	}
	disk := filepath.Join(d.dir, "latest", appliance.DiskName)
	args := []string{
		"-accel", "tcg", "-m", "16", "-display", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
		"-drive", "file=" + disk + ",format=raw,readonly=on,if=virtio",
	}
	d.step("qemu-system-x86_64 %s", strings.Join(args, " "))
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	began := time.Now()
	cmd := exec.CommandContext(ctx, qemu, args...)
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	err = cmd.Run()
	for line := range strings.Lines(console.String()) {
		if line = show.Text(line); line != "" {
			d.say("| %s", line)
		}
	}
	if err != nil {
		return false, withCode(exitFailed, fmt.Errorf("qemu: %w", err))
	}
	if !strings.Contains(console.String(), appliance.BootedLine) {
		return false, withCode(exitFailed, errors.New("the machine did not report what it should have read"))
	}
	fetched, _ := strconv.ParseInt(attr(disk, "cached_bytes"), 10, 64)
	d.say("booted in %.1f s; %s of the %s disk had to be fetched for it", time.Since(began).Seconds(), size(fetched), size(int64(len(d.app.Disk))))
	d.network("so far")
	return true, nil
}

// check reads every image whole, compares it with what was made, and has it verified.
func (d *demo) check() error {
	d.step("reading the images whole")
	images := map[string][]byte{appliance.DiskName: d.app.Disk, appliance.DataName: d.app.Data, appliance.SwapName: d.app.Swap}
	for name, want := range images {
		path := filepath.Join(d.dir, "latest", name)
		f, err := os.Open(path)
		if err != nil {
			return withCode(exitFailed, err)
		}
		h := sha256.New()
		_, err = io.Copy(h, f)
		if err == nil && [32]byte(h.Sum(nil)) != sha256.Sum256(want) {
			err = fmt.Errorf("%s: wrong content", path)
		}
		if err == nil {
			err = fs.CompleteFile(f)
		}
		f.Close()
		if state := attr(path, "state"); err == nil && state != "verified" {
			err = fmt.Errorf("%s is %s", path, state)
		}
		if err != nil {
			return withCode(exitFailed, err)
		}
		d.say("%s: as made, %s", name, attr(path, "state"))
	}
	d.network("in all")
	return nil
}
