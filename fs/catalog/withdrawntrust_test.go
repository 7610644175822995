package catalog

import (
	"bytes"
	"path/filepath"
	"testing"

	"vmcastfs/fs/catalog/trust"
	"vmcastfs/xvm"
)

// TestWithdrawnTrust: a key that is taken away refuses a withdrawn release as any other.
// Another package under its guid is an alarm; once that is accepted, both are served.
func TestWithdrawnTrust(t *testing.T) {
	key, ring := publisher(t, "publisher")
	s := newSite(t)
	first, second := diskImage(4*blk, 1), diskImage(4*blk, 2)
	s.release("old", "/old.xvm", packed(t, false, key, file{"root.img", first}))
	s.release("new", "/new.xvm", packed(t, false, key, file{"root.img", diskImage(4*blk, 3)}))
	keep, dir := keeping(t, s, true), filepath.Join(t.TempDir(), "trust")
	var state *trust.State
	h := s.open(func(c *Config) {
		keep(c)
		var err error
		if state, err = trust.Open(dir, c.FeedURL, c.Logger); err != nil {
			t.Fatal(err)
		}
		c.Trust, c.Keyring, c.RequireSigned = state, ring, true
	})
	defer state.Close()
	defer h.close()
	if err := h.complete("old", "root.img"); err != nil {
		t.Fatal(err)
	}
	item := s.items[0]
	s.drop("old")
	h.refresh()
	if h.rel("old").Withdrawn().IsZero() {
		t.Fatal("it is not withdrawn")
	}
	h.SetPolicy(xvm.Policy{Keyring: new(xvm.Keyring), Required: true})
	h.refused("old", "root.img", "not in the keyring")
	h.SetPolicy(xvm.Policy{Keyring: ring, Required: true})
	if !bytes.Equal(h.read("old", "root.img"), first) {
		t.Error("it differs")
	}
	s.origin.PutBytes("/again.xvm", packed(t, false, key, file{"root.img", second}))
	item.URL = s.origin.URL() + "/again.xvm"
	s.item(item)
	h.refresh()
	h.refused("old-2", "root.img", "changed after it was first seen")
	if !bytes.Equal(h.read("old", "root.img"), first) {
		t.Error("it differs")
	}
	d, err := trust.OpenDir(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	eventually(t, "the alarm can be accepted", func() bool {
		accepted, err := d.Accept(h.cfg.FeedURL, "old-2")
		return err == nil && len(accepted) == 1
	})
	if !bytes.Equal(h.read("old-2", "root.img"), second) || !bytes.Equal(h.read("old", "root.img"), first) {
		t.Error("generations are mixed")
	}
}
