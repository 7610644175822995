package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vmcastfs/cache/testkit"
)

// TestVolumesKeepHoles has libvirt and other programs copy an image of which little is data.
// The copies have its size, its bytes and its holes, whether a block list tells those or the
// blocks that were fetched.
func TestVolumesKeepHoles(t *testing.T) {
	t.Parallel()
	const size, part = 48 << 20, 100_000
	disk := make([]byte, size)
	copy(disk, noise(part, 1))
	copy(disk[size/2-5:], "0123456789") // in two blocks
	copy(disk[size-part:], noise(part, 2))
	w := bareWorld(t)
	src := t.TempDir()
	image := filepath.Join(src, "root.img")
	must(t, os.WriteFile(image, disk, 0o644))
	must(t, os.WriteFile(filepath.Join(src, "xvm.xml"), []byte("<vm><name>x</name></vm>"), 0o644))
	archive := filepath.Join(src, "p.xvm")
	if out, err := runBinary(t, "pack", "-o", archive, filepath.Join(src, "xvm.xml"), image); err != nil {
		t.Fatalf("pack: %v\n%s", err, out)
	}
	w.publish("packed", readAll(t, archive))
	w.publish("plain", packListed(t, member{"root.img", disk}))
	w.dir = filepath.Join(openDir(t, "vmlv", 0o755), "mnt")
	must(t, os.Mkdir(w.dir, 0o755))
	w.mount("complete=off")
	w.wantFile(disk, "plain", "root.img") // no list tells its holes before
	l := startLibvirt(t, w.dir)
	out := openDir(t, "vmlv", 0o755)
	run := func(args ...string) {
		t.Helper()
		if said, err := l.virsh(args...); err != nil {
			t.Fatalf("virsh %q: %v\n%s", args, err, said)
		}
	}
	want := func(path string) {
		t.Helper()
		if got := readAll(t, path); !bytes.Equal(got, disk) {
			t.Errorf("%s: %d other bytes", path, len(got))
		}
		var st syscall.Stat_t
		must(t, syscall.Stat(path, &st))
		if st.Blocks*512 > 4<<20 {
			t.Errorf("%s takes %d bytes of %d", path, st.Blocks*512, size)
		}
	}
	run("pool-create-as", "copies", "dir", "--target", out)
	for _, release := range []string{"packed", "plain"} {
		want(w.path(release, "root.img"))
		run("pool-create-as", release, "dir", "--target", w.path(release))
		path := filepath.Join(out, release)
		run("vol-download", "root.img", path+".down", "--pool", release, "--sparse")
		want(path + ".down")
		volume := filepath.Join(src, "volume.xml")
		must(t, os.WriteFile(volume, fmt.Appendf(nil, `<volume><name>%s.clone</name><capacity>%d</capacity><allocation>0</allocation>
			<target><format type="raw"/></target></volume>`, release, size), 0o644))
		run("vol-create-from", "copies", volume, "root.img", "--inputpool", release)
		want(path + ".clone")
		for name, args := range map[string][]string{
			"cp":       {"cp", "--sparse=auto", w.path(release, "root.img"), path + ".cp"},
			"qemu-img": {"qemu-img", "convert", "-f", "raw", "-O", "raw", w.path(release, "root.img"), path + ".qemu-img"},
		} {
			if said, err := runProgram(t, testkit.Need(t, args[0]), args[1:]...); err != nil {
				t.Fatalf("%s: %v\n%s", name, err, said)
			}
			want(path + "." + name)
		}
		run("pool-destroy", release)
	}
	run("pool-destroy", "copies")
}
