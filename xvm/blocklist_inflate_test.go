package xvm_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"

	"vmcastfs/xvm"
)

// TestBlockDecoder: what a mount serves of a block, and what verify says of it.
func TestBlockDecoder(t *testing.T) {
	zip := func(plain, comment string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Comment = comment
		_, err := z.Write([]byte(plain))
		if err == nil {
			err = z.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	plain := strings.Repeat("block", 1000)
	good := zip(plain, "")
	damaged := []byte(good)
	damaged[len(damaged)-5] ^= 1 // of its checksum
	var d xvm.BlockDecoder
	for _, c := range []struct {
		what, stored string
		rest         int
		good         bool
	}{
		{"a block", good, 0, true},
		{"two blocks", good + zip("x", ""), len(zip("x", "")), true},
		{"bytes behind", good + "zz", 2, true},
		{"nothing", "", 0, false},
		{"no gzip", plain, 0, false},
		{"half of it", good[:len(good)/2], 0, false},
		{"a shorter block", zip(plain[1:], ""), 0, false},
		{"a longer block", zip(plain+"x", ""), 0, false},
		{"another checksum", string(damaged), 0, false},
		{"a remark that is longer than the block", zip(plain, strings.Repeat("r", int(xvm.MaxStored(len(plain))))), 0, false},
		{"a block behind all that", good, 0, true},
	} {
		out := make([]byte, len(plain))
		rest, err := d.Decode([]byte(c.stored), out)
		if (err == nil) != c.good || c.good && (rest != c.rest || string(out) != plain) {
			t.Errorf("%s: rest %d, %v", c.what, rest, err)
		}
	}
}
