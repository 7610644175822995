package fs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"vmcastfs/fs/catalog"

	fusefs "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// FSType is the type of our mounts in /proc/self/mountinfo.
const FSType = "fuse." + subtype

const (
	subtype   = "vmcastfs"
	readAhead = 64 << 10
)

// A Server is a mounted filesystem.
type Server struct {
	vfs  *vfs
	dir  string // absolute, no symlinks
	dev  string // major:minor
	done chan struct{}
}

// Mount mounts tree and returns when the root answers. Ctx bounds the mounting,
// not the life of the mount. That ends with [Server.Unmount] or an umount by
// anybody else, see [Server.Done].
//
// As root it mounts directly, else through fusermount3. A stale mount of a dead
// vmcastfs on the directory is cleaned away first.
func Mount(ctx context.Context, tree *catalog.Catalog, o Options) (*Server, error) {
	o = o.withDefaults()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Source == "" {
		return nil, errors.New("mount: no source")
	}
	if err := CleanStale(o.Dir); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	dir, err := resolve(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("mount: %q: %w", dir, syscall.ENOTDIR)
	}

	v := newVFS(tree, o)
	options := v.fuseOptions()
	server, err := newServer(newBridge(v, options), dir, &options.MountOptions)
	if err != nil {
		err = fmt.Errorf("mount on %q: %w", dir, err)
		return nil, errors.Join(err, CleanStale(dir))
	}
	v.server = server
	v.passthrough.Store(!o.NoPassthrough && server.KernelSettings().Flags64()&fuse.CAP_PASSTHROUGH != 0)

	s := &Server{vfs: v, dir: dir, done: make(chan struct{})}
	shown := tree.Snapshot()
	unsubscribe := tree.Subscribe(v.poke)
	v.poke() // in case the tree changed between the two lines above
	go s.serve(server, shown, unsubscribe)
	if err := server.WaitMount(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount on %q: %w", dir, err), detach(dir))
	}
	if m, err := mountAt(dir); err == nil && m != nil {
		s.dev = device(m)
	}
	return s, nil
}

// newServer is fuse.NewServer, except that the connection does not leak into
// child processes: go-fuse leaves the descriptor of a direct mount open across
// exec, and a child that outlives us would keep the dead mount's callers waiting
// for ever.
func newServer(raw fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, error) {
	if !o.DirectMountStrict {
		server, err := fuse.NewServer(raw, dir, o) // runs fusermount3
		switch {
		case err == nil:
		case strings.HasPrefix(err.Error(), "fusermount exited"):
			err = errors.New("fusermount3 has refused it, and said why on standard error")
		case errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound):
			err = errors.New("only root mounts without fusermount3: install the package fuse3")
		}
		return server, err
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	server, err := fuse.NewServer(raw, dir, o)
	if err != nil {
		return nil, err
	}
	fds, _ := connections("/proc/self/fd") // with none, no worse than without us
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
	}
	return server, nil
}

func (v *vfs) fuseOptions() *fusefs.Options {
	o := v.opts
	negative := o.shortly
	level := slog.LevelWarn
	if o.Debug {
		level = slog.LevelDebug
	}
	logger := slog.NewLogLogger(v.log.With("from", "go-fuse").Handler(), level)
	m := fuse.MountOptions{
		AllowOther:               o.AllowOther,
		Options:                  append([]string{"default_permissions"}, o.Extra...),
		MaxBackground:            v.room.slots.total,
		MaxWrite:                 o.MaxRead, // go-fuse derives max_read from it
		MaxReadAhead:             readAhead,
		FsName:                   o.Source,
		Name:                     subtype,
		Debug:                    o.Debug,
		Logger:                   logger,
		IgnoreSecurityLabels:     true,
		ExplicitDataCacheControl: true,
		DisableSplice:            true,
		PanicHandler:             v.panicked,
		ExtraCapabilities:        fuse.CAP_ASYNC_DIO | fuse.CAP_READDIRPLUS_AUTO,
	}
	if os.Geteuid() == 0 {
		m.DirectMountStrict = true // a fallback would hide the reason of a failure
		m.DirectMountFlags = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	} else {
		m.Options = append(m.Options, "ro", "nosuid", "nodev", "noexec")
	}
	return &fusefs.Options{
		MountOptions:    m,
		NegativeTimeout: &negative,
		NullPermissions: true,
		Logger:          logger,
		RootStableAttr:  &fusefs.StableAttr{Ino: rootIno},
	}
}

// serve answers requests until the connection ends, and then cleans up.
func (s *Server) serve(server *fuse.Server, shown *catalog.Snapshot, unsubscribe func()) {
	defer close(s.done)
	stop := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() { s.vfs.notifier(stop, shown) })
	background.Go(func() { s.vfs.forgetter(stop) })
	server.Serve()
	unsubscribe()
	close(stop)
	background.Wait()
	s.vfs.closeAll()
}

// Done is closed when the filesystem is unmounted, whoever did it, and all it held
// is closed.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	out := s.vfs.stats.snapshot()
	out.Stalled = int(s.vfs.room.stalled.Load())
	s.vfs.mu.Lock()
	defer s.vfs.mu.Unlock()
	out.OpenFiles = len(s.vfs.open)
	return out
}

// Distrust has the kernel drop the pages it has of the open files with this inode
// number. Their readers meet the error that the file gives by now. Call it when a
// file has become corrupt. It does not block.
func (s *Server) Distrust(inode uint64) {
	ino := usableIno(inode)
	for _, f := range s.vfs.openNodes(ino) {
		s.vfs.distrust(f)
	}
}

func (v *vfs) openNodes(ino uint64) []*fileNode {
	v.mu.Lock()
	defer v.mu.Unlock()
	var nodes []*fileNode
	for h := range v.open {
		if h.node.id.Ino == ino {
			nodes = append(nodes, h.node)
		}
	}
	return nodes
}

// Unmount unmounts. While files are in use it tries again until ctx ends; then it
// detaches the mount if lazy is set, and fails with EBUSY otherwise. A detached
// mount serves its open files until they are closed or the process exits; Done
// tells. If somebody else has unmounted it, that is success; while another mount
// covers it, it cannot be unmounted, and fails with EBUSY.
func (s *Server) Unmount(ctx context.Context, lazy bool) error {
	const longest = 250 * time.Millisecond
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := s.unmount()
		if err == nil {
			select {
			case <-s.done:
			case <-ctx.Done(): // another mount namespace may hold a copy of the mount
			}
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("unmount %q: %w", s.dir, err)
		}
		select {
		case <-s.done:
			return nil
		case <-ctx.Done():
			if !lazy || errors.Is(err, errCovered) {
				return fmt.Errorf("unmount %q: %w", s.dir, err)
			}
			return detach(s.dir)
		case <-time.After(pause):
		}
	}
}

var errCovered = fmt.Errorf("another mount covers it, unmount that first: %w", syscall.EBUSY)

// unmount tries once, and only if the mount on our directory is ours.
func (s *Server) unmount() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	m, err := mountAt(s.dir)
	if err != nil {
		return err
	}
	switch {
	case m == nil:
		return nil
	case s.dev != device(m):
		if here, err := s.attached(); err != nil || !here {
			return err
		}
		return errCovered
	}
	return unmountDir(s.dir, 0)
}
