package image

import (
	"slices"
	"testing"

	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// TestBootsMerged: what half of the boots have read is the profile, in their order, and
// a profile of an earlier version counts as one of them.
func TestBootsMerged(t *testing.T) {
	st, err := store.Open(store.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	const u = recordUnit
	key := store.Key("00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff")
	read := func(units ...int64) (reads []xvm.ProfileRead) {
		for _, unit := range units {
			reads = append(reads, xvm.ProfileRead{Image: "disk.img", Off: unit * u, Len: u})
		}
		return reads
	}
	first, err := xvm.AppendProfile(nil, read(9, 1, 2, 50))
	if err == nil {
		err = st.PutDoc(kindProfile, string(key), first)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, boot := range [][]int64{{9, 1, 2, 60}, {9, 70, 1, 2}, {9, 1, 70, 2}} {
		if err := keepBoots(st, key, "disk.img", 100*u, read(boot...)); err != nil {
			t.Fatal(err)
		}
	}
	want := []xvm.ProfileRead{{Image: "disk.img", Off: 9 * u, Len: u}, {Image: "disk.img", Off: u, Len: u}, {Image: "disk.img", Off: 70 * u, Len: u}, {Image: "disk.img", Off: 2 * u, Len: u}}
	if got := recordedProfile(st, kindProfile, key); !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if b := bootsOf(st, key); b.Boots != 4 || b.Units[9].Count != 4 || b.Units[50].Count != 1 {
		t.Errorf("%+v", b)
	}
	var long []int64
	for i := range int64(3 * recordReads) {
		long = append(long, 2*i)
	}
	if err := keepBoots(st, key[1:]+"0", "disk.img", 10*recordReads*u, read(long...)); err != nil {
		t.Fatal(err)
	}
	if got := recordedProfile(st, kindProfile, key[1:]+"0"); len(got) == 0 || len(got) > recordReads {
		t.Errorf("cut at %d reads", len(got))
	}
}
