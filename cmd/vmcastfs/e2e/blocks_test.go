package e2e

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// diskOf is a disk with noise, text and zeros in turn, in blocks of 64 KiB.
func diskOf(blocks int, seed byte) []byte {
	const blk = 64 << 10
	p := make([]byte, blocks*blk)
	for b := range blocks {
		switch b % 3 {
		case 0:
			copy(p[b*blk:], noise(blk, seed+byte(b)))
		case 1:
			copy(p[b*blk:], lines(blk, seed+byte(b)))
		}
	}
	return p
}

// packBinary runs vmcastfs pack on one image, and returns the package.
func packBinary(t testing.TB, image []byte, args ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string][]byte{"xvm.xml": []byte("<xvm><name>test</name></xvm>"), "root.img": image} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "out.xvm")
	args = append(append([]string{"pack", "-o", out}, args...), filepath.Join(dir, "xvm.xml"), filepath.Join(dir, "root.img"))
	if text, err := runBinary(t, args...); err != nil {
		t.Fatalf("pack: %v\n%s", err, text)
	}
	return readAll(t, out)
}

// TestBlockPackage: a package made by pack is read block by block: its size is
// there at once, zeros cost nothing, and one wrong byte on the server is EIO
// for its block alone.
func TestBlockPackage(t *testing.T) {
	t.Parallel()
	const blk = 64 << 10
	disk := diskOf(48, 1)
	w := bareWorld(t)
	w.publish("one", packBinary(t, disk))
	w.mount("complete=off")
	path := w.path("one", "root.img")
	if info, err := os.Stat(path); err != nil || info.Size() != int64(len(disk)) {
		t.Fatal(info, err)
	}
	f, err := os.Open(path) // looks at the first bytes, for names of other files
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w.origin.ResetStats()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM); err != nil { // no read-ahead into what is no zeros
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 38*blk); err != nil || !bytes.Equal(p, make([]byte, 4096)) {
		t.Error("zeros:", err)
	}
	if n := w.packageStats().BytesSent; n > 1 { // opening may ask whether the archive is still the same
		t.Errorf("zeros take %d bytes", n)
	}
	// Damage what the server has of one stored block, for good.
	bad := -1
	for _, r := range []int64{1_000_000} {
		w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: r})
	}
	for b := range 48 {
		q := make([]byte, blk)
		_, err := f.ReadAt(q, int64(b)*blk)
		switch {
		case err == nil && bytes.Equal(q, disk[b*blk:(b+1)*blk]):
		case errors.Is(err, syscall.EIO) && bad < 0:
			bad = b
		default:
			t.Errorf("block %d: %v", b, err)
		}
	}
	if bad < 0 {
		t.Error("no block was damaged")
	}
	if state := attr(path, "state"); state != "partial" {
		t.Error("state", state)
	}
	if st := w.file("one", "root.img"); st.Verify != "block" || !strings.Contains(st.LastError, "block") {
		t.Errorf("%+v", st)
	}
}

// TestUpgradeFetchesWhatChanged: two releases that differ by 2 % (the blocks,
// not the bytes): the second one costs about that.
func TestUpgradeFetchesWhatChanged(t *testing.T) {
	t.Parallel()
	const blk, blocks = 64 << 10, 300
	first := noise(blocks*blk, 1)
	second := bytes.Clone(first)
	for b := 20; b < blocks; b += 50 { // 6 of 300
		copy(second[b*blk:], "changed")
	}
	w := bareWorld(t)
	w.publish("one", packBinary(t, first))
	w.publish("two", packBinary(t, second))
	w.mount("complete=off")
	w.wantFile(first, "one", "root.img")
	w.umount()
	w.mount("complete=off")
	if _, err := os.Stat(w.path("two", "root.img")); err != nil {
		t.Fatal(err)
	}
	w.origin.ResetStats()
	w.wantFile(second, "two", "root.img")
	sent := w.packageStats().BytesSent
	t.Logf("upgrade: %d of %d bytes (%.2f %%)", sent, len(second), 100*float64(sent)/float64(len(second)))
	if sent > int64(len(second))*25/1000 {
		t.Errorf("the upgrade fetched %d of %d bytes", sent, len(second))
	}
	// The first block may have come already, with the first look.
	if n := w.status().Reads.CopiedBytes; n != (blocks-6)*blk && n != (blocks-7)*blk {
		t.Errorf("%d bytes copied", n)
	}
}

// TestSidecarOption: a sidecar made by vmcastfs index lets an ordinary gzip
// image be read anywhere at once, from a directory and from a server, signed by
// a key of the keyring.
func TestSidecarOption(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	g.key("operator", "ed25519", "never")
	key := filepath.Join(t.TempDir(), "secret.asc")
	if err := os.WriteFile(key, g.run("", "--batch", "--armor", "--export-secret-keys", g.user("operator")), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := diskOf(200, 7)
	w := bareWorld(t)
	about, stored := member{"xvm.xml", []byte("<xvm/>")}, member{"root.img.gz", filter(t, disk, "gzip", "-n")}
	manifest := sha1sums(about, stored)
	pkg := pack(t, about, member{"manifest.txt", manifest}, member{"mf-signature.asc", g.sign("operator", manifest)},
		member{"signature.asc", g.sign("operator", about.content)}, stored)
	w.publish("one", pkg)
	dir := t.TempDir()
	side := filepath.Join(dir, "one.xvm.sidecar")
	out, err := w.run("index", "-o", side, "--sign", key, "--options", "keyring="+g.ring("operator"), w.origin.URL()+"/one.xvm")
	if err != nil {
		t.Fatalf("index: %v\n%s", err, out)
	}
	w.origin.PutBytes("/side/one.xvm.sidecar", readAll(t, side))
	ring := g.ring("operator")
	for _, place := range []string{dir, w.origin.URL() + "/side/"} {
		w.cache = t.TempDir()
		w.mount("keyring="+ring, "sidecar="+place, "complete=off")
		path := w.path("one", "root.img")
		info, err := os.Stat(path)
		if err != nil || info.Size() != int64(len(disk)) {
			t.Fatal(place, info, err)
		}
		w.origin.ResetStats()
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4096)
		off := info.Size() - 100_000
		if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:off+4096]) {
			t.Error("near the end:", err)
		}
		if n := w.packageStats().BytesSent; n > int64(len(stored.content))/3 {
			t.Errorf("a read near the end takes %d of %d bytes", n, len(stored.content))
		}
		f.Close()
		w.wantFile(disk, "one", "root.img")
		if st := w.release("one"); st.Sidecar == nil || st.Sidecar.State != "good" || !strings.Contains(st.Sidecar.Signer, "operator") {
			t.Errorf("%s: %+v, warnings %q", place, st.Sidecar, st.Warnings)
		}
		if st := w.file("one", "root.img"); st.Verify != "block" {
			t.Errorf("%+v", st)
		}
		w.umount()
	}
	for _, bad := range []string{"sidecar=ftp://x/", "sidecar=https://u:p@x/", "sidecar=http://"} {
		if out, err := w.run("mount", "-o", w.options(bad), w.feed, w.dir); err == nil || !strings.Contains(out, "sidecar") {
			t.Errorf("%s: %v\n%s", bad, err, out)
		}
	}
}

// TestSidecarVouchesMounted: under a keyring an OVA, which carries no signature,
// is refused until a signed sidecar vouches for it; and so is a package that has
// a block list of its own and no signature.
func TestSidecarVouchesMounted(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	g.key("operator", "ed25519", "never")
	key := filepath.Join(t.TempDir(), "secret.asc")
	if err := os.WriteFile(key, g.run("", "--batch", "--armor", "--export-secret-keys", g.user("operator")), 0o600); err != nil {
		t.Fatal(err)
	}
	disk, about := member{"root.img", diskOf(20, 3)}, member{"box.ovf", []byte("<Envelope/>")}
	w := bareWorld(t)
	w.publish("one", pack(t, about, member{"box.mf", sha1sums(about, disk)}, disk))
	own := t.TempDir()
	if err := errors.Join(os.WriteFile(filepath.Join(own, "root.img"), disk.content, 0o600),
		os.WriteFile(filepath.Join(own, "xvm.xml"), []byte(`<xvm version="1"><name>two</name><disk file="root.img" target="vda"/></xvm>`), 0o600)); err != nil {
		t.Fatal(err)
	}
	listed := filepath.Join(own, "two.xvm")
	if out, err := w.run("pack", "-o", listed, filepath.Join(own, "xvm.xml"), filepath.Join(own, "root.img")); err != nil {
		t.Fatalf("pack: %v\n%s", err, out)
	}
	w.publish("two", readAll(t, listed))
	side := t.TempDir()
	with := []string{"keyring=" + g.ring("operator"), "sidecar=" + side, "complete=off", "sig=require"}
	releases := []string{"one", "two"}
	w.mount(with...)
	for _, name := range releases {
		if _, err := os.ReadFile(w.path(name, "root.img")); !errors.Is(err, syscall.EACCES) {
			t.Errorf("%s opens without a sidecar with %v", name, err)
		}
	}
	w.umount()
	for _, name := range releases {
		if out, err := w.run("index", "-o", filepath.Join(side, name+".xvm.sidecar"), "--sign", key, "--options", "sig=ignore", w.origin.URL()+"/"+name+".xvm"); err != nil {
			t.Fatalf("index: %v\n%s", err, out)
		}
	}
	w.mount(with...)
	w.wantFile(about.content, "one", "box.ovf")
	for _, name := range releases {
		w.wantFile(disk.content, name, "root.img")
		if by := attr(w.path(name, "root.img"), "signer"); !strings.Contains(by, "operator") {
			t.Errorf("%s is vouched for by %q", name, by)
		}
		if st := w.release(name); st.State != "indexed" || st.Trust.By != "sidecar" {
			t.Errorf("%s: %+v, %+v", name, st, st.Trust)
		}
	}
	if _, err := os.ReadFile(w.path("two", "blocks.txt")); !errors.Is(err, syscall.EACCES) {
		t.Errorf("the list that nobody vouches for opens with %v", err)
	}
}

// TestNoSidecarInAnOutage: a server that has said that there is no sidecar keeps no
// release closed when it is away later.
func TestNoSidecarInAnOutage(t *testing.T) {
	t.Parallel()
	disk := noise(20<<16, 4)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"root.img", disk}))
	w.opts = append(w.opts, "sidecar="+w.origin.URL()+"/side/", "complete=off")
	w.mount()
	w.wantFile(disk, "one", "root.img")
	w.umount()
	w.origin.Down()
	w.mount()
	w.wantFile(disk, "one", "root.img")
}

// TestStateAfterEviction: when blocks of a verified image are lost from the
// cache, the state says so, and what comes in their place is checked.
func TestStateAfterEviction(t *testing.T) {
	t.Parallel()
	disk := member{"root.img", noise(20<<16, 3)}
	w := bareWorld(t)
	w.publish("one", packListed(t, disk))
	w.mount()
	path := w.path("one", "root.img")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "it is verified", time.Minute, func() bool { return attr(path, "state") == "verified" })
	f.Close()
	w.umount()
	// Its blocks go, as eviction does with whole files; the documents stay.
	if out, err := w.run("cache", "prune", "1M", "--cache", w.cache); err != nil {
		t.Fatalf("prune: %v\n%s", err, out)
	}
	w.origin.Inject(origin.Fault{Path: "/one.xvm", Kind: origin.Flip, At: 500_000})
	w.mount()
	if state := attr(path, "state"); state != "partial" {
		t.Error("without its blocks it is", state)
	}
	_, err = os.ReadFile(path)
	if !errors.Is(err, syscall.EIO) {
		t.Errorf("a block that is not what it was: %v", err)
	}
	if st := w.file("one", "root.img"); st.State != "partial" || st.Verify != "kept" {
		t.Errorf("%+v", st)
	}
}

// TestHolesOfBlockList: tools that ask how much of an image is data, and where, find
// the holes that its block list knows, and copy none of them.
func TestHolesOfBlockList(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	dir := t.TempDir()
	disk := filepath.Join(dir, "root.img")
	content := make([]byte, 64<<20)
	copy(content[20<<20:], noise(64<<10, 1))
	if err := os.WriteFile(disk, content, 0o600); err != nil {
		t.Fatal(err)
	}
	xml := filepath.Join(dir, "xvm.xml")
	if err := os.WriteFile(xml, []byte("<xvm><name>holes</name></xvm>"), 0o600); err != nil {
		t.Fatal(err)
	}
	pkg := filepath.Join(dir, "one.xvm")
	if out, err := runBinary(t, "pack", "-o", pkg, xml, disk); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.publish("one", readAll(t, pkg))
	w.mount()
	image := w.path("one", "root.img")
	kib := func(path string) int64 {
		t.Helper()
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks / 2
	}
	if got := kib(image); got != 64 {
		t.Errorf("stat says %d KiB of data, want 64", got)
	}
	copied := filepath.Join(dir, "copy.img")
	if out, err := command(t, "", "cp", image, copied); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := kib(copied); got > 128 {
		t.Errorf("cp made a file of %d KiB", got)
	}
	archive := filepath.Join(dir, "copy.tar")
	if out, err := command(t, filepath.Dir(image), "tar", "-cSf", archive, "root.img"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if info, err := os.Stat(archive); err != nil || info.Size() > 128<<10 {
		t.Errorf("tar -S made an archive of %d bytes", info.Size())
	}
	if !bytes.Equal(readAll(t, copied), content) {
		t.Error("the copy differs")
	}
}
