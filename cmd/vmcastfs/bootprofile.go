package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vmcastfs/feed/show"
	"vmcastfs/xvm"
)

const (
	bootQuiet = 45 * time.Second // without a read a boot is over: an emulated kernel may find its disk late
	bootLimit = 10 * time.Minute
	bootUnit  = 64 << 10
	bootReads = 20_000 // units
)

// traceLine is what QEMU says of a read of a drive.
var traceLine = regexp.MustCompile(`blk_co_preadv .*offset (\d+) bytes (\d+)`)

// bootCommand is QEMU with the machine of a description, whose one drive is image. The
// image is not written to. KVM is used if it is there.
func bootCommand(ctx context.Context, d *xvm.Description, image string, files map[string]string) (*exec.Cmd, error) {
	qemu, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return nil, fmt.Errorf("a boot is recorded with QEMU: install qemu-system-x86: %w", err)
	}
	if d.Arch != "" && d.Arch != "x86_64" && d.Arch != "i686" {
		return nil, fmt.Errorf("boots of %s are not recorded: give --profile FILE", d.Arch)
	}
	memory := d.MemoryMiB
	if memory == 0 {
		memory = 1024
	}
	args := []string{
		"-accel", "kvm", "-accel", "tcg", "-m", strconv.Itoa(memory), "-nodefaults", "-nic", "none", "-display", "none", "-no-reboot",
		"-drive", "format=raw,snapshot=on,if=virtio,file=" + strings.ReplaceAll(image, ",", ",,"), "-trace", "blk_co_preadv",
	}
	if kernel := files[d.Kernel]; kernel != "" {
		args = append(args, "-kernel", kernel)
		if ramdisk := files[d.Ramdisk]; ramdisk != "" {
			args = append(args, "-initrd", ramdisk)
		}
		if d.Cmdline != "" {
			args = append(args, "-append", d.Cmdline)
		}
	}
	return exec.CommandContext(ctx, qemu, args...), nil
}

// recordBoot boots a machine from its first image, once, and returns what that reads
// as a boot profile.
func recordBoot(ctx context.Context, e *env, description []byte, images []packImage) ([]byte, error) {
	d, err := xvm.ParseDescription(description)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	image, name := "", ""
	for _, im := range images {
		base := filepath.Base(im.path)
		if im.name != "" {
			base = im.name
		}
		files[base], _ = filepath.Abs(im.path)
		if name == "" && im.size == 0 && base != d.Kernel && base != d.Ramdisk && !xvm.NoDisk(base) {
			image, name = files[base], base
		}
	}
	if image == "" {
		return nil, errors.New("none of the files is a disk that can be booted: give --profile FILE")
	}
	asked := ctx
	ctx, cancel := context.WithTimeoutCause(ctx, bootLimit, fmt.Errorf("it still reads after %s", bootLimit))
	defer cancel()
	cmd, err := bootCommand(ctx, d, image, files)
	if err != nil {
		return nil, err
	}
	said, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(e.stderr, "vmcastfs: booting %s to record what that reads\n", show.Text(name))
	quiet := time.AfterFunc(2*bootQuiet, cancel)
	var reads []xvm.ProfileRead
	seen := make(map[int64]bool)
	last := ""
	for lines := bufio.NewScanner(said); lines.Scan(); {
		m := traceLine.FindStringSubmatch(lines.Text())
		if m == nil {
			last = lines.Text()
			continue
		}
		off, _ := strconv.ParseInt(m[1], 10, 64)
		n, _ := strconv.ParseInt(m[2], 10, 64)
		for unit := off / bootUnit; unit*bootUnit < off+n && len(seen) < bootReads; unit++ {
			if seen[unit] {
				continue
			}
			seen[unit] = true
			reads = xvm.AppendRead(reads, xvm.ProfileRead{Image: name, Off: unit * bootUnit, Len: bootUnit})
		}
		if len(seen) > 1 { // the first place is read before anything boots from it
			quiet.Reset(bootQuiet)
		}
	}
	quiet.Stop()
	err = cmd.Wait()
	switch {
	case asked.Err() != nil:
		return nil, context.Cause(asked)
	case context.Cause(ctx) == context.Canceled && len(seen) > 0: // it is quiet
	case context.Cause(ctx) != nil:
		return nil, fmt.Errorf("record a boot: %w", context.Cause(ctx))
	case err != nil:
		return nil, fmt.Errorf("record a boot: QEMU: %w: %s", err, show.Text(last))
	}
	if len(seen) < 2 {
		return nil, fmt.Errorf("record a boot: nothing was read of %s: %s", show.Text(name), show.Text(last))
	}
	fmt.Fprintf(e.stderr, "vmcastfs: the boot has read %d KiB\n", len(seen)*bootUnit>>10)
	return xvm.AppendProfile(nil, reads)
}
