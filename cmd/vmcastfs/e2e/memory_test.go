package e2e

import (
	"bytes"
	big "encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

// TestSmallMemory: six compressed images and 32 readers in 256 MiB. Where no cgroup
// can be made, the runtime is told the limit, and the daemon's peak must stay below.
func TestSmallMemory(t *testing.T) {
	t.Parallel()
	const limit = 256 << 20
	w := bareWorld(t)
	w.plain = fastBinary(t)
	disk := bytes.Repeat(lines(1<<20, 9), 56)
	for i := 0; i < len(disk); i += 4096 {
		big.BigEndian.PutUint64(disk[i:], uint64(i))
	}
	images := map[string][]byte{
		"a.img.gz":  filter(t, disk, "gzip", "-1"),
		"b.img.gz":  append(filter(t, disk[:7<<20], "gzip", "-1"), filter(t, disk[7<<20:], "gzip", "-1")...),
		"c.img.xz":  filter(t, disk, "xz", "--lzma2=preset=0,dict=64MiB"),
		"d.img.xz":  filter(t, disk, "xz", "--lzma2=preset=0,dict=64MiB"),
		"e.img.zst": filter(t, disk, "zstd", "-q", "-1", "--long=26"),
		"f.img.zst": filter(t, disk, "zstd", "-q", "-1", "--long=26"),
	}
	for name, stored := range images {
		w.publish(name[:1], packListed(t, member{name, stored}))
	}
	var out string
	var err error
	mount := []string{w.plain, "mount", "-o", w.options(), w.feed, w.dir}
	procs := memoryGroup(t, limit)
	if procs != "" {
		out, err = runProgram(t, "sh", append([]string{"-c", `echo $$ >"$0" && exec "$@"`, procs}, mount...)...)
	} else {
		out, err = runProgram(t, "env", append([]string{"GOMEMLIMIT=" + strconv.Itoa(limit-limit/10)}, mount...)...)
	}
	if err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { w.end(w.dir) }) // before the cgroup, which has to be empty then
	pids := w.daemons()
	stop := make(chan struct{})
	time.AfterFunc(3*time.Second, func() { close(stop) }) // those that read in order come to the end in any case
	var wg sync.WaitGroup
	for name := range images {
		readers := 5
		if name[0] >= 'e' {
			readers = 6
		}
		wg.Go(func() {
			path := w.path(name[:1], name[:len(name)-len(filepath.Ext(name))])
			if err := readLoad(path, disk, readers, stop); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	for _, pid := range pids {
		peak := residentKiB(t, pid)
		if t.Logf("peak %d MiB", peak>>10); peak<<10 > limit {
			t.Errorf("the daemon took %d KiB, the limit is %d", peak, limit>>10)
		}
	}
}

// memoryGroup makes a cgroup with a limit of memory, and returns the file that takes
// its processes; "" if none can be made here.
func memoryGroup(t *testing.T, limit int) string {
	t.Helper()
	for root, name := range map[string]string{"/sys/fs/cgroup/memory": "memory.limit_in_bytes", "/sys/fs/cgroup": "memory.max"} {
		dir, err := os.MkdirTemp(root, "vmcastfs-test-")
		if err != nil {
			continue
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(strconv.Itoa(limit))
			f.Close()
		}
		if err == nil {
			t.Cleanup(func() {
				testkit.Eventually(t, "the cgroup is empty", time.Minute, func() bool { return os.Remove(dir) == nil })
			})
			return filepath.Join(dir, "cgroup.procs")
		}
		_ = os.Remove(dir)
	}
	t.Log("no cgroup can be made here")
	return ""
}
