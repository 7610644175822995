package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"vmcastfs/feed/show"
)

// inDir tells whether a path is in a directory, and how it is called there.
func inDir(dir, path string) (file string, ok bool) {
	file, ok = strings.CutPrefix(path, dir)
	return strings.TrimPrefix(file, "/"), ok && (file == "" || file[0] == '/')
}

// loopDevice is one on a file of a mount.
type loopDevice struct {
	device, file string
	domain       string // of Xen, that it is attached to; ""
}

// loopDevices are those on files in dir, in the order of their names.
func loopDevices(ctx context.Context, dir string) (loops []loopDevice) {
	backing, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, name := range backing {
		raw, _ := os.ReadFile(name)
		if file, ok := inDir(dir, strings.TrimSpace(string(raw))); ok {
			loop := strings.Split(name, "/")[3]
			loops = append(loops, loopDevice{"/dev/" + loop, show.Text(file), xenDomain(ctx, loop)})
		}
	}
	return loops
}

// holders tells what keeps the mount on dir in use: loop devices with the Xen
// domains that they are attached to, and processes. It does not ask the mount.
func holders(ctx context.Context, dir string) (found []string) {
	for _, l := range loopDevices(ctx, dir) {
		text := l.device + " on " + l.file
		if l.domain != "" {
			text += " for the Xen domain " + l.domain
		}
		found = append(found, text)
	}
	for _, links := range []string{"/proc/[0-9]*/fd/*", "/proc/[0-9]*/cwd"} {
		open, _ := filepath.Glob(links)
		seen := make(map[string]bool)
		for _, name := range open {
			target, err := os.Readlink(name)
			file, ok := inDir(dir, target)
			pid := strings.Split(name, "/")[2]
			if err != nil || !ok || seen[pid] || pid == fmt.Sprint(os.Getpid()) {
				continue
			}
			seen[pid] = true
			comm, _ := os.ReadFile("/proc/" + pid + "/comm")
			found = append(found, strings.TrimSpace(fmt.Sprintf("%s (pid %s) %s", show.Text(strings.TrimSpace(string(comm))), pid, show.Text(file))))
		}
	}
	return found
}

// xenDomain is the domain that a loop device is attached to: its name, if xenstore
// tells it, and its number. "": none.
func xenDomain(ctx context.Context, loop string) string {
	number, _ := os.ReadFile("/sys/block/" + loop + "/dev")
	_, minor, _ := strings.Cut(strings.TrimSpace(string(number)), ":")
	n, err := strconv.Atoi(minor)
	if err != nil {
		return ""
	}
	devices, _ := filepath.Glob("/sys/bus/xen-backend/devices/vbd-*/physical_device")
	for _, name := range devices {
		raw, _ := os.ReadFile(name)
		if strings.TrimSpace(string(raw)) != fmt.Sprintf("7:%x", n) {
			continue
		}
		id := strings.Split(filepath.Base(filepath.Dir(name)), "-")[1]
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		domain, _ := exec.CommandContext(ctx, "xenstore-read", "/local/domain/"+id+"/name").Output()
		return strings.TrimSpace(show.Text(strings.TrimSpace(string(domain))) + " (" + id + ")")
	}
	return ""
}
