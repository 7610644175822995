package machines

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
	"vmcastfs/fs/catalog/bases"
)

// Work changes the machines of a directory. It is for one goroutine.
type Work struct {
	Dir bases.Dir
	// Step is told of each step that a crash may come after; nil: nobody is.
	Step func(what string)
}

// Disk is a disk to be made.
type Disk struct {
	Name string
	Make func(ctx context.Context, path string) error
}

// disksName is the directory of a machine's disks.
const disksName = "disks"

// lockWait is how long the lock of the directory is waited for: it is held for some
// system calls.
const lockWait = 10 * time.Second

// ErrExists is wrapped when there is a machine of the name.
var ErrExists = errors.New("there is a machine of this name")

// DiskPath is where a disk of a machine lies, below the machines' directory.
func DiskPath(dir, machine, disk string) string {
	return filepath.Join(dir, machine, disksName, disk)
}

func (w *Work) step(what string) {
	if w.Step != nil {
		w.Step(what)
	}
}

// Create makes a machine with its disks, and with files beside the record.
func (w *Work) Create(ctx context.Context, r *bases.Record, disks []Disk, files map[string]string) error {
	if err := w.Free(r.Name); err != nil {
		return err
	}
	tmp := privdir.TempPrefix + r.Name + "-" + rand.Text()
	m, err := w.stage(ctx, tmp)
	if err != nil {
		return err
	}
	defer m.Close()        //nolint:errcheck // what was written is synced
	defer w.removeAll(tmp) // unless it has been renamed
	w.step("the directory is made")
	if err := w.makeDisks(ctx, m, disksName, disks); err != nil {
		return err
	}
	for name, text := range files {
		if err := m.Write(name, []byte(text)); err != nil {
			return err
		}
	}
	w.step("the files are written")
	if err := bases.Write(m, r); err != nil {
		return err
	}
	w.step("the record is written")
	if err := errors.Join(m.Sync(), ctx.Err()); err != nil {
		return err
	}
	// A directory takes the place of none that holds something.
	err = w.Dir.Rename(tmp, r.Name)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%s: %w", r.Name, ErrExists)
	}
	if err != nil {
		return err
	}
	w.step("the machine is there")
	return w.Dir.Sync()
}

// Free refuses a name that is taken.
func (w *Work) Free(name string) error {
	if _, err := w.Dir.StatOf(name); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", name, ErrExists)
	}
	return nil
}

// stage makes a directory under a temporary name, locked until it is closed.
func (w *Work) stage(ctx context.Context, tmp string) (privdir.Dir, error) {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err := w.Dir.Lock(ctx)
	if err != nil {
		return privdir.Dir{}, err
	}
	defer unlock()
	m, err := bases.Make(w.Dir.Dir, tmp)
	if err != nil {
		return privdir.Dir{}, err
	}
	if err := unix.Flock(int(m.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		m.Close()
		return privdir.Dir{}, fmt.Errorf("lock %s: %w", m.Name(), err)
	}
	return m, nil
}

// makeDisks makes a directory with disks, durably.
func (w *Work) makeDisks(ctx context.Context, m privdir.Dir, name string, disks []Disk) error {
	d, err := bases.Make(m, name)
	if err != nil {
		return err
	}
	defer d.Close() //nolint:errcheck // it is synced
	for _, disk := range disks {
		if err := disk.Make(ctx, d.Path(disk.Name)); err != nil {
			return err
		}
		f, err := d.OpenFile(disk.Name, os.O_RDWR)
		if err != nil {
			return err
		}
		if err := errors.Join(f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
			return err
		}
		w.step("the disk " + disk.Name + " is made")
	}
	return errors.Join(d.Sync(), m.Sync())
}

// Machine is a machine that this process alone changes, until Close.
type Machine struct {
	*bases.Record
	Dir  privdir.Dir
	Work *Work
}

// missingMachine is an fs.ErrNotExist.
type missingMachine struct{ name, dir string }

func (e *missingMachine) Error() string { return "there is no machine " + e.name + " in " + e.dir }
func (e *missingMachine) Unwrap() error { return fs.ErrNotExist }

// Open locks a machine and reads its record.
func (w *Work) Open(name string) (*Machine, error) {
	if err := bases.CheckName(name); err != nil {
		return nil, err
	}
	m, err := w.Dir.Sub(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingMachine{name, w.Dir.Name()}
	}
	if err != nil {
		return nil, err
	}
	locked := unix.Flock(int(m.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	r, err := w.Dir.Read(name)
	found := &Machine{r, m, w}
	switch {
	case err != nil:
	case errors.Is(locked, unix.EWOULDBLOCK) && Running(found.Paths()):
		err = fmt.Errorf("the machine %s runs: stop it first", name)
	case errors.Is(locked, unix.EWOULDBLOCK), locked == nil && !w.holds(name, m): // it may have been removed, and made again
		err = fmt.Errorf("another command works on the machine %s: wait for it to end", name)
	default:
		err = locked
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return found, nil
}

// holds tells whether the entry of that name is the directory.
func (w *Work) holds(name string, m privdir.Dir) bool {
	var open unix.Stat_t
	now, err := w.Dir.StatOf(name)
	return err == nil && unix.Fstat(int(m.Fd()), &open) == nil && now.Ino == open.Ino && now.Dev == open.Dev
}

// Close gives the machine back.
func (m *Machine) Close() error { return m.Dir.Close() }

// DiskPath is where one of its disks lies.
func (m *Machine) DiskPath(disk string) string { return DiskPath(m.Work.Dir.Name(), m.Name, disk) }

// Paths are those of its disks, as in Images.
func (m *Machine) Paths() (paths []string) {
	for _, im := range m.Images {
		paths = append(paths, m.DiskPath(im.Disk))
	}
	return paths
}

// Reset puts fresh disks in the place of all its disks.
func (m *Machine) Reset(ctx context.Context, disks []Disk) error {
	tmp := privdir.TempPrefix + disksName + "-" + rand.Text()
	defer m.Sweep()
	if err := m.Work.makeDisks(ctx, m.Dir, tmp, disks); err != nil {
		return err
	}
	m.Work.step("the new disks are made")
	if err := ctx.Err(); err != nil {
		return err
	}
	fd := int(m.Dir.Fd())
	if err := unix.Renameat2(fd, tmp, fd, disksName, unix.RENAME_EXCHANGE); err != nil {
		return fmt.Errorf("exchange the disks of %s, which its file system must be able to: %w", m.Dir.Name(), err)
	}
	m.Work.step("the disks are exchanged")
	if err := m.Dir.Sync(); err != nil {
		return err
	}
	m.Work.step("the exchange is durable")
	return nil
}

// Remove removes the machine and all that is in its directory.
func (m *Machine) Remove() error {
	tmp := privdir.TempPrefix + m.Name + "-" + rand.Text()
	if err := m.Work.Dir.Rename(m.Name, tmp); err != nil {
		return err
	}
	m.Work.step("the machine is gone")
	if err := m.Work.Dir.Sync(); err != nil {
		return err
	}
	return m.Work.removeAll(tmp)
}

// Temp is a path in the machine's directory for a file that the next command
// removes.
func (m *Machine) Temp(name string) string { return m.Dir.Path(privdir.TempPrefix + name) }

// Sweep removes what this command, or killed ones, left in the machine.
func (m *Machine) Sweep() {
	names, _ := m.Dir.Names()
	for _, name := range names {
		if strings.HasPrefix(name, privdir.TempPrefix) {
			_ = m.Work.removeAll(filepath.Join(m.Name, name))
		}
	}
}

// Sweep removes what killed commands left, where no process works on it.
func (w *Work) Sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	unlock, err := w.Dir.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	names, err := w.Dir.Names()
	if err != nil {
		return err
	}
	for _, name := range names {
		left := strings.HasPrefix(name, privdir.TempPrefix)
		if !left && bases.CheckName(name) != nil {
			continue
		}
		d, err := w.Dir.Sub(name)
		if err != nil {
			continue // it is told of when it is used
		}
		if unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			if left {
				_ = w.removeAll(name)
			} else {
				(&Machine{&bases.Record{Name: name}, d, w}).Sweep()
			}
		}
		d.Close()
	}
	return nil
}

// removeAll removes what is below a path in the machines' directory, and follows no
// link out of it.
func (w *Work) removeAll(path string) error {
	root, err := os.OpenRoot(w.Dir.Name())
	if err != nil {
		return err
	}
	defer root.Close()
	return root.RemoveAll(path)
}
