package image

import (
	"cmp"
	"encoding/json"
	"slices"

	"vmcastfs/cache/store"
	"vmcastfs/xvm"
)

// kindBoots are the recorded boots of an image, merged, by its key.
const kindBoots = "boots"

// maxBoots is how many boots of an image are recorded.
const maxBoots = 8

// boots are recorded boots of one image, merged: for each unit how many of them have
// read it, and the sum of its places in their orders.
type boots struct {
	Version int
	Boots   int
	Units   map[int64]bootUnit
}

type bootUnit struct{ Count, Places int }

// bootsOf are those of an image. A profile that an earlier version has recorded counts
// as one boot.
func bootsOf(st *store.Store, key store.Key) *boots {
	b := &boots{Version: 1, Units: make(map[int64]bootUnit)}
	raw, err := st.GetDoc(kindBoots, string(key))
	if err == nil && json.Unmarshal(raw, b) == nil && b.Version == 1 && b.Units != nil {
		return b
	}
	b = &boots{Version: 1, Units: make(map[int64]bootUnit)}
	if reads := recordedProfile(st, kindProfile, key); len(reads) > 0 {
		b.add(reads)
	}
	return b
}

func (b *boots) add(reads []xvm.ProfileRead) {
	b.Boots++
	place := 0
	for _, r := range reads {
		for unit := r.Off / recordUnit; unit*recordUnit < r.Off+r.Len; unit++ {
			u := b.Units[unit]
			b.Units[unit] = bootUnit{u.Count + 1, u.Places + place}
			place++
		}
	}
}

// merged is what at least half of the boots have read, in their mean order, cut at the
// limits of a recording.
func (b *boots) merged(name string, size int64) (reads []xvm.ProfileRead) {
	var units []int64
	for unit, u := range b.Units {
		if unit >= 0 && unit*recordUnit < size && u.Count > 0 && 2*u.Count >= b.Boots {
			units = append(units, unit)
		}
	}
	slices.SortFunc(units, func(x, y int64) int {
		a, b := b.Units[x], b.Units[y]
		return cmp.Or(cmp.Compare(a.Places*b.Count, b.Places*a.Count), cmp.Compare(x, y))
	})
	for n, unit := range units {
		at := unit * recordUnit
		length := min(recordUnit, size-at)
		if last := len(reads) - 1; last >= 0 && reads[last].Off+reads[last].Len == at {
			reads[last].Len += length
			continue
		}
		if len(reads) >= recordReads || int64(n)*recordUnit >= recordBytes || textOf(name, len(reads)+1) >= recordText {
			break
		}
		reads = append(reads, xvm.ProfileRead{Image: name, Off: at, Len: length})
	}
	return reads
}

// keepBoots adds a recorded boot to those of an image, and keeps what they have in
// common as its profile.
func keepBoots(st *store.Store, key store.Key, name string, size int64, reads []xvm.ProfileRead) error {
	if len(reads) == 0 {
		return nil
	}
	b := bootsOf(st, key)
	if b.Boots >= maxBoots {
		return nil
	}
	b.add(reads)
	text, err := xvm.AppendProfile(nil, b.merged(name, size))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(b)
	if err == nil {
		err = st.PutDoc(kindProfile, string(key), text)
	}
	if err == nil {
		err = st.PutDoc(kindBoots, string(key), raw)
	}
	return err
}
