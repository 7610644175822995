package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"vmcastfs/cache/origin"
	"vmcastfs/cmd/internal/appliance"
)

// TestImportedDebianBoots: a qcow2 of a Debian that its publisher only summed whole boots to its
// login prompt through an overlay, from a feed made of the publisher's directory. No more is fetched
// than a boot without hints may take, each block checked by the sidecar that `feed import` made and
// signed. TestImportedCatalogue has the same of simplestreams, without a guest.
func TestImportedDebianBoots(t *testing.T) {
	if os.Getenv("VMCASTFS_TEST_LONG") == "" {
		t.Skip("a long form: VMCASTFS_TEST_LONG is not set")
	}
	t.Parallel()
	d, dir, s := findDebian(t), t.TempDir(), newStreams(t)
	const release, place = "debian-12-generic-amd64-20240601-1", "/cloud/bookworm/20240601-1/"
	const name, image = release + ".qcow2", place + release + ".qcow2"
	if out, err := command(t, dir, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", filepath.Join(d.dir, "root.img"), name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	qcow := readAll(t, filepath.Join(dir, name))
	own := newGnuPG(t)
	own.key("own", "ed25519", "never")
	key := filepath.Join(dir, "own.key")
	if err := os.WriteFile(key, own.run("", "--batch", "--armor", "--export-secret-keys", own.user("own")), 0o600); err != nil {
		t.Fatal(err)
	}
	sums := fmt.Appendf(nil, "%s  %s\n%s  SOURCES.txt\n", hexSHA256(qcow), name, strings.Repeat("0", 64))
	s.origin.PutBytes(place+"SHA256SUMS", sums)
	s.origin.PutBytes(place+"SHA256SUMS.gpg", s.g.sign("cloud", sums))
	s.origin.PutBytes(image, qcow)
	text, err := s.run("feed", "import", "--keyring", s.keys, "--index", "--sign", key, "-o", filepath.Join(dir, "vmcast.xml"), s.origin.URL()+place)
	if err != nil || !strings.Contains(text, "1 release, 1 new, 0 gone, 1 sidecar; signed by cloud") {
		t.Fatalf("%v\n%s", err, text)
	}
	sidecars, _ := filepath.Glob(filepath.Join(dir, "*.sidecar"))
	for _, path := range sidecars {
		s.origin.PutBytes("/own/"+filepath.Base(path), readAll(t, path))
	}
	s.origin.PutBytes(appliance.FeedPath, readAll(t, filepath.Join(dir, "vmcast.xml")))
	s.origin.ResetStats()
	s.mount("sig=require", "keyring="+own.ring("own"), "sidecar="+s.origin.URL()+"/own/", "complete=off")
	overlay := filepath.Join(dir, "overlay.qcow2")
	if out, err := command(t, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", s.world.path(release, name), overlay); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	took := bootToLogin(t, "exec qemu-system-x86_64 -accel tcg -m 512 -display none -nodefaults -serial stdio -no-reboot"+
		" -kernel "+filepath.Join(d.dir, "vmlinuz")+" -initrd "+filepath.Join(d.dir, "initrd.img")+
		" -append 'root=/dev/vda rw console=ttyS0 quiet panic=-1 no_timer_check' -drive format=qcow2,if=virtio,file="+overlay)
	sent := s.origin.Stats(image).BytesSent
	t.Logf("it boots in %v; %d of %d bytes were fetched (%.1f %%)", took, sent, len(qcow), 100*float64(sent)/float64(len(qcow)))
	// This Debian is small, and what a boot reads is a quarter of it: 63 MB of 249. Of the images
	// that catalogues have, which are 430 MB and more, as much is at most 15 %.
	if sent > 80e6 {
		t.Errorf("%d bytes were fetched", sent)
	}
	if st := s.file(release, name); st.Verify != "block" || st.State != "partial" || st.LastError != "" {
		t.Errorf("%+v", st)
	}
	// A block that the publisher's server has otherwise than it was summed is not served.
	f, err := os.Open(s.world.path(release, name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for off := int64(0); ; off += 8 << 20 {
		if off >= int64(len(qcow)) {
			t.Fatal("blocks that do not match the sidecar were served")
		}
		remove := s.origin.Inject(origin.Fault{Kind: origin.Flip, Path: image, At: off + 100})
		_, err := f.ReadAt(make([]byte, 4096), off)
		remove()
		if errors.Is(err, syscall.EIO) {
			break
		}
	}
}
