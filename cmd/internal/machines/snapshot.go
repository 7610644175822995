package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A snapshot is a block device of device-mapper: a loop device on the image, which
// is only read, and one on a file that takes what is written. The device is gone
// after a reboot, the file is not: the device is made again when the machine starts.

// MapperThere says why there is no device-mapper.
func MapperThere() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_, err := Run(ctx, "dmsetup", "version")
	if missing := new(MissingError); errors.As(err, &missing) {
		return err
	}
	if err != nil {
		return errors.New("this kernel has no device-mapper that answers; `modprobe dm-snapshot` loads it, where it is built; --disk qcow2 needs none")
	}
	return nil
}

// DevicePath is that of the block device of a disk.
func DevicePath(disk string) string { return "/dev/mapper/" + device(disk) }

// device is the name of the block device of a disk, whose name begins with that of
// its machine.
func device(disk string) string { return "vmcastfs-" + disk }

const maxDevice = 127 // bytes of a name

// find tells whether the block device of a disk is there. One that is half made, or of
// a file that is gone, is removed. One of another machine is an error.
func find(ctx context.Context, file string) (there bool, err error) {
	name := device(filepath.Base(file))
	table, err := Run(ctx, "dmsetup", "table", name)
	if err != nil {
		return false, ctx.Err()
	}
	f := strings.Fields(table)
	if len(f) == 0 {
		return false, remove(ctx, name)
	}
	on := "another disk"
	if len(f) > 4 && f[2] == "snapshot" { // 0 SIZE snapshot ORIGIN COW ...
		if raw, err := os.ReadFile("/sys/dev/block/" + f[4] + "/loop/backing_file"); err == nil {
			on = strings.TrimSuffix(string(raw), "\n")
		}
	}
	if real, err := filepath.EvalSymlinks(file); err == nil && on == real {
		return true, nil
	}
	if _, err := os.Lstat(on); err == nil || !filepath.IsAbs(on) {
		return false, fmt.Errorf("device-mapper has %s already, of the machine on %s: give this machine another name", name, on)
	}
	return false, remove(ctx, name)
}

func remove(ctx context.Context, name string) error {
	if _, err := Run(ctx, "dmsetup", "remove", name); err != nil {
		return fmt.Errorf("it runs, or something else has its disk open: %w", err)
	}
	return nil
}

// InUse tells whether somebody has the block device of a disk open.
func InUse(ctx context.Context, file string) bool {
	if there, err := find(ctx, file); err != nil || !there {
		return false
	}
	open, err := Run(ctx, "dmsetup", "info", "--columns", "--noheadings", "-o", "open", device(filepath.Base(file)))
	return err == nil && strings.TrimSpace(open) != "0"
}

// CopyOnWrite makes a file that takes what is written to a disk of size bytes. It has
// room for all of it, and takes what it holds.
func CopyOnWrite(size int64) func(context.Context, string) error {
	return func(ctx context.Context, path string) error {
		if _, err := find(ctx, path); err != nil {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(size+size/128+1<<20), f.Close()) // 16 bytes for each 4 KiB, and the header
	}
}

// Activate makes the block device of a disk, unless it is there.
func Activate(ctx context.Context, base, file string, size int64) error {
	name := device(filepath.Base(file))
	if len(name) > maxDevice {
		return fmt.Errorf("%s is longer than device-mapper takes names", name)
	}
	if there, err := find(ctx, file); err != nil || there {
		return err
	}
	origin, err := loop(base, os.O_RDONLY)
	if err != nil {
		return err
	}
	defer origin.Close() //nolint:errcheck // the block device has it open then
	written, err := loop(file, os.O_RDWR)
	if err != nil {
		return err
	}
	defer written.Close() //nolint:errcheck // likewise
	table := fmt.Sprintf("0 %d snapshot %s %s P 8", size/512, origin.Name(), written.Name())
	if _, err = Run(ctx, "dmsetup", "create", name, "--table", table); err == nil {
		_, err = Run(ctx, "dmsetup", "mknodes", name) // where no udev does
	}
	return err
}

// Deactivate takes the block device of a disk away. It fails while the device is open.
func Deactivate(ctx context.Context, file string) error {
	if there, err := find(ctx, file); err != nil || !there {
		return err
	}
	return remove(ctx, device(filepath.Base(file)))
}

// loop puts a file on a loop device. That goes when nobody has it open any more, so also
// when this process is killed.
func loop(path string, flag int) (*os.File, error) {
	file, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // the loop device holds it
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close() //nolint:errcheck // nothing is written to it
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], path)
	for range 64 { // another process may take the free one
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), flag, 0)
		if err != nil {
			return nil, err
		}
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), &config); err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("put %s on a loop device: %w", path, err)
		}
	}
	return nil, fmt.Errorf("put %s on a loop device: others take them all", path)
}
