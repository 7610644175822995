package catalog

import (
	"bytes"
	"testing"

	"vmcastfs/xvm/pack"
)

// TestPrefetchTail: after the first bytes of an archive one more round trip indexes
// it, block list and boot profile included.
func TestPrefetchTail(t *testing.T) {
	t.Parallel()
	disk := diskImage(200*blk, 3)
	var list bytes.Buffer
	if _, err := pack.Pack(t.Context(), &list, pack.Options{
		Description: []byte("<xvm><name>test</name></xvm>"), Time: testTime, TempDir: t.TempDir(), BlockSize: pack.MinBlockSize,
		Profile: []byte("vmcast-profile 1\nroot.img 0 4096\n"),
		Inputs:  []pack.Input{{Name: "root.img", Size: int64(len(disk)), Content: bytes.NewReader(disk)}},
	}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		pkg      []byte
		requests int64 // the tail, and what is between it and the first bytes
	}{
		"plain": {packed(t, false, nil, file{"root.img", disk}), 2},
		"list":  {list.Bytes(), 3},
	} {
		s := newSite(t)
		s.release("one", "/one.xvm", tc.pkg)
		h := s.open()
		h.pkg("one")
		if n := s.origin.Stats("/one.xvm").Requests; n != tc.requests {
			t.Errorf("%s: %d requests, want %d", name, n, tc.requests)
			for _, r := range s.origin.Log() {
				t.Logf("%s %d+%d", r.Path, r.Off, r.Len)
			}
		}
		h.open("one", "root.img")
		if st := h.file("one", "root.img").Status(); st.Verify != "block" {
			t.Errorf("%s: checked by %q", name, st.Verify)
		}
		if got := h.read("one", "root.img"); !bytes.Equal(got, disk) {
			t.Errorf("%s: wrong bytes", name)
		}
	}
}
