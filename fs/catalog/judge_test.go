package catalog

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// TestKeysChange: a key that is taken away stops counting at once, and one that is
// added counts. What is open goes on, the tree stays what it was.
func TestKeysChange(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	_, others := publisher(t, "other")
	disk := diskImage(40*blk, 1)
	s := newSite(t)
	s.release("one", "/one.xvm", packed(t, false, key, file{"root.img", disk}))
	h := s.trusting(filepath.Join(t.TempDir(), "state"), others, true)
	h.refused("one", "root.img", "not in the keyring")

	told := make(chan struct{}, 100)
	defer h.Subscribe(func() { told <- struct{}{} })()
	h.SetPolicy(xvm.Policy{Keyring: ring, Required: true})
	r := h.rel("one")
	guest := h.open("one", "root.img") // the same release, at once
	p := make([]byte, blk)
	if _, err := guest.ReadAt(t.Context(), p, 0); err != nil || !bytes.Equal(p, disk[:blk]) {
		t.Error(err)
	}
	if st := h.file("one", "xvm.xml").Status(); st.State != "verified" {
		t.Errorf("%+v", st)
	}
	eventually(t, "somebody is told", func() bool { return len(told) > 0 })
	eventually(t, "the release is remembered", func() bool { return strings.Contains(s.log.String(), "trusted now") })

	h.SetPolicy(xvm.Policy{Keyring: new(xvm.Keyring), Required: true})
	h.refused("one", "root.img", "not in the keyring")
	h.refused("one", "xvm.xml", "not in the keyring")
	if _, err := guest.ReadAt(t.Context(), p, 30*blk); err != nil || !bytes.Equal(p, disk[30*blk:31*blk]) {
		t.Error("an open guest:", err)
	}
	eventually(t, "the log tells", func() bool { return strings.Contains(s.log.String(), "release is refused") })

	h.SetPolicy(xvm.Policy{Keyring: ring, Required: true})
	if !bytes.Equal(h.read("one", "root.img"), disk) {
		t.Error("it differs")
	}
	if h.rel("one") != r {
		t.Error("the release is another one, though its package is the same")
	}
}

// TestSidecarKeyTakenAway: a release that a sidecar vouched for is not served
// without that, and is opened anew when it counts again.
func TestSidecarKeyTakenAway(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "operator")
	disk := append([]byte("a boot sector"), diskImage(9*blk, 1)...)
	s := newSite(t)
	s.sidecar = t.TempDir()
	s.release("one", "/one.img", disk)
	mustWrite(t, filepath.Join(s.sidecar, "one.img.sidecar"), sidecarFor(t, disk, disk, "/one.img", key))
	h := s.trusting(filepath.Join(t.TempDir(), "state"), ring, true)
	guest := h.open("one", "one.img")
	h.SetPolicy(xvm.Policy{Keyring: new(xvm.Keyring), Required: true})
	if _, err := h.file("one", "one.img").Open(t.Context()); !errors.Is(err, archive.ErrRefused) {
		t.Error("it opens without its key:", err)
	}
	eventually(t, "it is opened without the sidecar", func() bool {
		p, err := h.rel("one").Package(t.Context())
		return err == nil && strings.Contains(p.Refusal(), "not signed by a trusted key")
	})
	p := make([]byte, blk)
	if _, err := guest.ReadAt(t.Context(), p, 4*blk); err != nil || !bytes.Equal(p, disk[4*blk:5*blk]) {
		t.Error("an open guest:", err)
	}
	h.SetPolicy(xvm.Policy{Keyring: ring, Required: true})
	eventually(t, "it is served again", func() bool {
		p, err := h.rel("one").Package(t.Context())
		return err == nil && p.Refusal() == ""
	})
	if !bytes.Equal(h.read("one", "one.img"), disk) {
		t.Error("it differs")
	}
	if st := h.file("one", "one.img").Status(); st.Verify != "block" {
		t.Errorf("%+v", st)
	}
}

// shortLived is a key that expires some time after now, and its keyring.
func shortLived(t *testing.T, life time.Duration) (*openpgp.Entity, *xvm.Keyring) {
	t.Helper()
	born := time.Now().Add(-time.Hour)
	e, err := openpgp.NewEntity("short", "", "short@example.org", &packet.Config{
		Time: func() time.Time { return born }, KeyLifetimeSecs: uint32((life + time.Hour) / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := e.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	ring, err := xvm.ParseKeyring(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return e, ring
}

// signedBy is a package that the key signed at a time.
func signedBy(t *testing.T, e *openpgp.Entity, at time.Time, f file) []byte {
	t.Helper()
	var sig bytes.Buffer
	manifest := manifestOf(f)
	err := openpgp.DetachSign(&sig, []*openpgp.Entity{e}, bytes.NewReader(manifest.content), &packet.Config{Time: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return tarOf(t, manifest, file{"mf-signature.asc", sig.Bytes()}, f)
}

// TestVerdictsFollowTheClock: a signature that comes from the future counts once
// that has come, and one whose key expires stops to count, without a remount.
func TestVerdictsFollowTheClock(t *testing.T) {
	t.Parallel()
	const skew = 10 * time.Minute // what is allowed
	disk := file{"root.img", diskImage(2*blk, 1)}
	// signed opens a release that the key signed some time from now.
	signed := func(e *openpgp.Entity, ring *xvm.Keyring, from time.Duration) (*site, *host) {
		s := newSite(t)
		s.release("one", "/one.xvm", signedBy(t, e, time.Now().Add(from), disk))
		return s, s.trusting(filepath.Join(t.TempDir(), "state"), ring, true)
	}

	opens := func(h *host) bool {
		f, err := h.file("one", "root.img").Open(t.Context())
		if err == nil {
			f.Close()
		}
		return err == nil
	}
	e, ring := shortLived(t, time.Hour)
	_, h := signed(e, ring, skew+3*time.Second)
	for later := 6 * time.Second; opens(h); later *= 2 { // the machine was slower than that
		h.close()
		_, h = signed(e, ring, skew+later)
	}
	h.refused("one", "root.img", "dated in the future")
	eventually(t, "the future has come", func() bool { return opens(h) })
	h.close()

	var s *site
	e, ring = shortLived(t, 4*time.Second)
	s, h = signed(e, ring, -time.Minute)
	for life := 8 * time.Second; !opens(h); life *= 2 {
		h.close()
		e, ring = shortLived(t, life)
		s, h = signed(e, ring, -time.Minute)
	}
	if st := h.rel("one").Status(); !strings.Contains(strings.Join(st.Warnings, "\n"), "counts until") {
		t.Errorf("nobody is warned: %q", st.Warnings)
	}
	h.look()
	if !strings.Contains(s.log.String(), "a key expires soon") {
		t.Error("the log does not warn")
	}
	eventually(t, "the key has expired", func() bool {
		_, err := h.file("one", "root.img").Open(t.Context())
		return errors.Is(err, archive.ErrRefused) && strings.Contains(err.Error(), "has expired")
	})
}

// TestWholeFirst: where signatures are required, a small member is checked whole
// before its first byte is served, plain or compressed, so that nobody boots a
// forged kernel.
func TestWholeFirst(t *testing.T) {
	t.Parallel()
	key, ring := publisher(t, "publisher")
	xml := file{"xvm.xml", []byte(`<xvm><kernel>vmlinuz</kernel><disk file="root.img"/></xvm>`)}
	kernel := file{"vmlinuz", diskImage(40*blk, 1)}
	zipped := file{"data.img.gz", gz(t, diskImage(40*blk, 2))}
	forgedKernel, forgedZip := bytes.Clone(kernel.content), bytes.Clone(zipped.content)
	forgedKernel[len(forgedKernel)-1] ^= 1
	forgedZip[len(forgedZip)-1] ^= 1 // of the length at its end
	manifest := manifestOf(xml, kernel, zipped)
	sign := func(p []byte) []byte {
		sig, err := key.Sign(p, testTime)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	pkg := func(kernel, zipped []byte) []byte {
		return tarOf(t, xml, manifest, file{"mf-signature.asc", sign(manifest.content)}, file{"signature.asc", sign(xml.content)},
			file{"vmlinuz", kernel}, file{"data.img.gz", zipped})
	}
	s := newSite(t)
	s.release("honest", "/one.xvm", pkg(kernel.content, zipped.content))
	h := s.open(func(c *Config) { c.Keyring, c.RequireSigned = ring, true })
	for name, want := range map[string][]byte{"vmlinuz": kernel.content, "data.img.gz": zipped.content} {
		if !bytes.Equal(h.read("honest", name), want) {
			t.Errorf("%s differs", name)
		}
		if st := h.file("honest", name).Status(); st.Verify != "strict" && st.Verify != "kept" || st.VerifyNote != "" {
			t.Errorf("%s: %+v", name, st)
		}
	}
	h.read("honest", "data.img")
	h.close()

	s = newSite(t)
	s.release("forged", "/one.xvm", pkg(forgedKernel, forgedZip))
	h = s.open(func(c *Config) { c.Keyring, c.RequireSigned = ring, true })
	for _, name := range []string{"vmlinuz", "data.img.gz", "data.img"} {
		f, err := h.pkg("forged").Lookup(t.Context(), name)
		if err != nil {
			continue // its size cannot be found either
		}
		fh, err := f.Open(t.Context())
		if err != nil {
			continue
		}
		p := make([]byte, 512)
		if n, err := fh.ReadAt(t.Context(), p, 0); err == nil {
			t.Errorf("the first %d bytes of a forged %s are served", n, name)
		}
		fh.Close()
	}
}
