package catalog

import (
	"bytes"
	"testing"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/xvm"
	"vmcastfs/xvm/pack"
)

// TestPrewarm: what a boot of the previous release has read is here of the newest one
// before anyone opens it, and what the kernel reads on behind that: by the sums of
// blocks that have moved, else by offset. What nobody opened does not stay when the
// feed drops it.
func TestPrewarm(t *testing.T) {
	const blocks = 64
	for _, listed := range []bool{true, false} {
		make := func(content []byte) []byte {
			if listed {
				return packed(t, true, nil, file{"root.img", content})
			}
			f := file{"root.img", content}
			return tarOf(t, manifestOf(f), f)
		}
		s := newSite(t)
		old := diskImage(blocks*blk, 1)
		next := bytes.Clone(old)
		copy(next[20*blk:], old[40*blk:44*blk]) // moved
		copy(next[40*blk:], diskImage(4*blk, 9))
		s.release("old", "/old.xvm", make(old))
		keep := keeping(t, s, true)
		warm := func(c *Config) {
			keep(c)
			c.Profile, c.Prewarm, c.PrewarmLimit = true, "boot", 20*blk
		}
		h := s.open(warm)
		eventually(t, "nothing tells what a boot of the old one reads", func() bool { st := h.shown("old"); return st.Prewarm != nil && st.Prewarm.State == "unknown" })
		if err := h.complete("old", "root.img"); err != nil {
			t.Fatal(err)
		}
		text, err := xvm.AppendProfile(nil, []xvm.ProfileRead{{Image: "root.img", Off: 40 * blk, Len: 4 * blk}, {Image: "root.img", Off: 2 * blk, Len: blk}})
		if err == nil {
			err = h.cfg.Store.PutDoc("profile", h.key("old", "root.img"), text)
		}
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "sums are kept", func() bool { return h.cfg.Store.HasDoc("sums", h.key("old", "root.img")) })
		s.release("next", "/next.xvm", make(next))
		h.refresh()
		eventually(t, "the newest is warm", func() bool { st := h.shown("next"); return st.Prewarm != nil && st.Prewarm.State == "done" })
		key := store.Key(h.key("next", "root.img"))
		has := func(at int64) bool {
			f, err := h.cfg.Store.File(key, blocks*blk, blk)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			return f.Has(at)
		}
		for at, want := range map[int64]bool{2: true, 20: listed, 24: listed, 40: !listed, 44: !listed, 50: false} {
			if has(at) != want {
				t.Errorf("listed %t: block %d is here: %t", listed, at, !want)
			}
		}
		if st := h.shown("old"); st.Prewarm == nil || st.Prewarm.State != "unknown" {
			t.Errorf("the old one: %+v", st.Prewarm)
		}
		s.release("later", "/later.xvm", make(diskImage(blk, 3)))
		s.drop("next")
		h.refresh()
		if _, ok := h.Snapshot().Release("next"); ok {
			t.Error("what nobody opened stays")
		}
		h.close()
	}
}

// TestPrewarmKernel: beside the boot set of a disk, the kernel and the ramdisk are here.
func TestPrewarmKernel(t *testing.T) {
	s := newSite(t)
	members := []file{{"root.img", diskImage(16*blk, 1)}, {"vmlinuz", diskImage(8*blk, 2)}, {"initrd.img", diskImage(8*blk, 3)}}
	o := pack.Options{Description: []byte(`<xvm><name>test</name><kernel>vmlinuz</kernel><ramdisk>initrd.img</ramdisk></xvm>`), Time: testTime, Compress: true, TempDir: t.TempDir(),
		Profile: []byte("vmcast-profile 1\nroot.img 0 65536\n")}
	for _, f := range members {
		o.Inputs = append(o.Inputs, pack.Input{Name: f.name, Size: int64(len(f.content)), Content: bytes.NewReader(f.content)})
	}
	var b bytes.Buffer
	if _, err := pack.Pack(t.Context(), &b, o); err != nil {
		t.Fatal(err)
	}
	s.release("one", "/one.xvm", b.Bytes())
	keep := keeping(t, s, true)
	h := s.open(func(c *Config) {
		keep(c)
		c.Profile, c.Prewarm, c.PrewarmLimit = true, "boot", 256*blk
	})
	eventually(t, "the newest is warm", func() bool { st := h.shown("one"); return st.Prewarm != nil && st.Prewarm.State == "done" })
	before := s.origin.Stats("/one.xvm").BytesSent
	for _, f := range members[1:] {
		if got := h.read("one", f.name); !bytes.Equal(got, f.content) {
			t.Errorf("%s differs", f.name)
		}
	}
	if more := s.origin.Stats("/one.xvm").BytesSent - before; more != 0 {
		t.Errorf("%d bytes were fetched", more)
	}
	h.close()
}

// TestPrewarmByDate: a release that is dated ahead is warmed when its day has come, without
// another look at the feed.
func TestPrewarmByDate(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one := packed(t, true, nil, file{"root.img", diskImage(4*blk, 1)})
	s.release("now", "/now.xvm", one)
	s.origin.PutBytes("/then.xvm", one)
	for i, ahead := range []time.Duration{48 * time.Hour, 24*time.Hour + 4*time.Second} {
		s.item(feed.Entry{ID: []string{"far", "then"}[i], Title: []string{"far", "then"}[i], URL: s.origin.URL() + []string{"/far.xvm", "/then.xvm"}[i],
			Length: int64(len(one)), Published: time.Now().Add(ahead)})
	}
	keep := keeping(t, s, true)
	h := s.open(func(c *Config) {
		keep(c)
		c.Prewarm, c.PrewarmLimit = "boot", 256*blk
	})
	defer h.close()
	eventually(t, "the newest is warm", func() bool { return h.shown("now").Prewarm != nil })
	if st := h.shown("then"); st.Prewarm != nil && time.Now().Before(st.Published.Add(-24*time.Hour)) {
		t.Errorf("it is warmed before its day: %+v", st.Prewarm)
	}
	eventually(t, "the next one is warm on its day", func() bool { return h.shown("then").Prewarm != nil })
	if h.shown("far").Prewarm != nil {
		t.Error("the one after it is warm, too")
	}
}
