package machines

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
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
	if err == nil {
		_, err = Run(ctx, "losetup", "--version")
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

// active tells whether there is such a block device: a node in /dev may be stale.
func active(ctx context.Context, name string) bool {
	_, err := Run(ctx, "dmsetup", "info", name)
	return err == nil
}

// CopyOnWrite makes a file that takes what is written to a disk of size bytes. It has
// room for all of it, and takes what it holds.
func CopyOnWrite(size int64) func(context.Context, string) error {
	return func(_ context.Context, path string) error {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		return errors.Join(f.Truncate(size+size/128+1<<20), f.Close()) // 16 bytes for each 4 KiB, and the header
	}
}

// Activate makes the block device of a disk, unless it is there.
func Activate(ctx context.Context, disk, base, file string, size int64) error {
	name := device(disk)
	if len(name) > maxDevice {
		return fmt.Errorf("%s is longer than device-mapper takes names", name)
	}
	if active(ctx, name) {
		return nil
	}
	stale, err := Run(ctx, "losetup", "--noheadings", "--output", "NAME", "--associated", file)
	if err != nil {
		return err
	}
	for _, loop := range strings.Fields(stale) { // of a command that was killed
		if _, err := Run(ctx, "losetup", "--detach", loop); err != nil {
			return err
		}
	}
	var loops []string
	// With the block device on them they go when it does.
	defer func() {
		for _, loop := range loops {
			_, _ = Run(context.WithoutCancel(ctx), "losetup", "--detach", loop)
		}
	}()
	for _, args := range [][]string{{"--read-only", base}, {file}} {
		out, err := Run(ctx, "losetup", append([]string{"--find", "--show"}, args...)...)
		if err != nil {
			return err
		}
		loops = append(loops, strings.TrimSpace(out))
	}
	table := fmt.Sprintf("0 %d snapshot %s %s P 8", size/512, loops[0], loops[1])
	if _, err = Run(ctx, "dmsetup", "create", name, "--table", table); err == nil {
		_, err = Run(ctx, "dmsetup", "mknodes", name) // where no udev does
	}
	return err
}

// Deactivate takes the block device of a disk away. It fails while the device is open.
func Deactivate(ctx context.Context, disk string) error {
	if !active(ctx, device(disk)) {
		return nil
	}
	if _, err := Run(ctx, "dmsetup", "remove", device(disk)); err != nil {
		return fmt.Errorf("it runs, or something else has its disk open: %w", err)
	}
	return nil
}
