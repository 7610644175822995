package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// extImage makes the image of an ext4 partition with a file in it.
func extImage(t *testing.T, path string, size int64, text string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "hello"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	f.Close()
	args := []string{"-q", "-F", "-t", "ext4", "-N", "16", "-O", "^has_journal,sparse_super2,^resize_inode", "-E", "lazy_itable_init=1,packed_meta_blocks=1,nodiscard", "-d", dir, path}
	if out, err := command(t, "", "mke2fs", args...); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// Partition images make a disk that the tools for disks take: of odd sizes,
// more than an MBR has room for, and larger than one can say.
func TestPartitionsMakeDisk(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"mke2fs", "mkswap", "sfdisk", "losetup", "partx", "blkid", "tar"} {
		testkit.Need(t, tool)
	}
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	extImage(t, in("imagefile"), 3<<20+1234, "one")
	if err := os.WriteFile(in("imagefile2"), make([]byte, 1<<20+77), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := command(t, dir, "mkswap", "imagefile2"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.WriteFile(in("imagefile3"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	extImage(t, in("imagefile4"), 1<<20, "four")
	extImage(t, in("huge.img"), 3<<40, "huge")
	w := bareWorld(t)
	serve := func(title string, files ...string) {
		t.Helper()
		if out, err := command(t, dir, "tar", append([]string{"--sparse", "-cf", title + ".tar"}, files...)...); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		w.publish(title, readAll(t, in(title+".tar")))
	}
	if out, err := command(t, dir, "gzip", "-k", "imagefile4"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	serve("few", "imagefile", "imagefile2", "imagefile3", "imagefile4.gz")
	serve("huge", "huge.img", "imagefile2")
	var many []string
	for i := range 17 {
		name := fmt.Sprintf("p%02d.img", i)
		if err := os.Link(in("imagefile4"), in(name)); err != nil {
			t.Fatal(err)
		}
		many = append(many, name)
	}
	serve("many", append([]string{"--hard-dereference"}, many...)...)
	w.mount()
	for _, c := range []struct {
		release, label string
		parts          []string // what is in the file of each, or "swap"
	}{
		{"few", "dos", []string{"one", "swap", "four"}},
		{"many", "gpt", strings.Fields(strings.Repeat("four ", 17))},
		{"huge", "gpt", []string{"huge", "swap"}},
	} {
		if c.release == "few" { // told by their names, and listed at once
			if _, err := os.Lstat(w.path("few", "disk.img")); err != nil {
				t.Error(err)
			}
		} else {
			testkit.Eventually(t, "it is listed", time.Minute, func() bool {
				names, _ := os.ReadDir(w.path(c.release))
				return strings.Contains(fmt.Sprint(names), "disk.img")
			})
		}
		disk := w.path(c.release, "disk.img")
		dump, err := command(t, "", "sfdisk", "-d", disk)
		if err != nil || !strings.Contains(dump, "label: "+c.label) || strings.Count(dump, "start=") != len(c.parts) {
			t.Errorf("%s: %v: %s", c.release, err, dump)
		}
		if out, err := command(t, "", "sfdisk", "--verify", disk); err != nil || !strings.Contains(out, "No errors") {
			t.Errorf("%s: %v: %s", c.release, err, out)
		}
		checkPartitions(t, disk, c.parts)
	}
	sum, err := command(t, "", "sha256sum", w.path("few", "disk.img"))
	if err != nil {
		t.Fatalf("%v: %s", err, sum)
	}
	w.umount()
	w.mount()
	if again, err := command(t, "", "sha256sum", w.path("few", "disk.img")); err != nil || again != sum {
		t.Errorf("%v: another disk after a remount: %s, not %s", err, again, sum)
	}
}

// checkPartitions attaches the disk as a loop device and looks into each of its
// partitions.
func checkPartitions(t *testing.T, disk string, parts []string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testkit.Missing(t, "root, for loop devices")
	}
	out, err := command(t, "", "losetup", "-r", "-f", "-P", "--show", disk)
	if err != nil {
		t.Fatalf("losetup %s: %v: %s", disk, err, out)
	}
	loop := strings.TrimSpace(out)
	defer func() {
		if out, err := exec.Command("losetup", "-d", loop).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}()
	inSys := func(pattern string) []string {
		found, _ := filepath.Glob(filepath.Join("/sys/block", filepath.Base(loop), filepath.Base(loop)+"p"+pattern))
		return found
	}
	if len(inSys("*")) == 0 { // a kernel that does not read partition tables itself
		if out, err := command(t, "", "partx", "-a", loop); err != nil {
			t.Fatalf("partx: %v: %s", err, out)
		}
	}
	devices := inSys("*")
	if len(devices) != len(parts) {
		t.Fatalf("%s has %d partitions: %q", disk, len(devices), devices)
	}
	dir := t.TempDir()
	seen := make(map[string]int)
	for _, sys := range devices {
		number := readAll(t, filepath.Join(sys, "dev"))
		node := filepath.Join(dir, filepath.Base(sys))
		major, minor, _ := strings.Cut(strings.TrimSpace(string(number)), ":")
		if out, err := command(t, "", "mknod", node, "b", major, minor); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		kind, err := command(t, "", "blkid", "-p", "-s", "TYPE", "-o", "value", node)
		if err != nil {
			t.Errorf("%s of %s: %v: %s", node, disk, err, kind)
		}
		if kind = strings.TrimSpace(kind); kind == "swap" {
			seen[kind]++
			continue
		}
		on := filepath.Join(dir, "on")
		if err := os.MkdirAll(on, 0o755); err != nil {
			t.Fatal(err)
		}
		if out, err := command(t, "", "mount", "-o", "ro", node, on); err != nil {
			t.Errorf("mount %s of %s, %s: %v: %s", node, disk, kind, err, out)
			continue
		}
		seen[string(readAll(t, filepath.Join(on, "hello")))]++
		if out, err := command(t, "", "umount", on); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	want := make(map[string]int)
	for _, p := range parts {
		want[p]++
	}
	if fmt.Sprint(seen) != fmt.Sprint(want) {
		t.Errorf("%s holds %v, not %v", disk, seen, want)
	}
}
