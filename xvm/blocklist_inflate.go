package xvm

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// MaxStored bounds what one block of plain bytes takes in its member. gzip adds little
// to what it cannot compress, and what is longer wants something else.
func MaxStored(plain int) int64 { return int64(plain) + int64(plain)/8 + 4096 }

// BlockDecoder inflates the blocks of a member, each a gzip member of its own. The zero
// value is ready. It is for one goroutine at a time.
type BlockDecoder struct {
	z  *gzip.Reader
	in bytes.Reader
}

// Decode inflates the gzip member that stored begins with into plain, which it has to
// fill to the last byte, and compares its checksum. rest is how many bytes of stored are
// behind it.
func (d *BlockDecoder) Decode(stored, plain []byte) (rest int, err error) {
	d.in.Reset(stored)
	if d.z == nil {
		d.z, err = gzip.NewReader(&d.in)
	} else {
		err = d.z.Reset(&d.in)
	}
	if err != nil {
		return 0, err
	}
	d.z.Multistream(false)
	if _, err := io.ReadFull(d.z, plain); err != nil {
		return 0, err
	}
	var more [1]byte
	if n, err := d.z.Read(more[:]); n > 0 {
		return 0, fmt.Errorf("it has more than %d bytes", len(plain))
	} else if err != io.EOF {
		return 0, err
	}
	rest = d.in.Len()
	if used := len(stored) - rest; int64(used) > MaxStored(len(plain)) {
		return 0, fmt.Errorf("%d bytes take %d when compressed", len(plain), used)
	}
	return rest, nil
}
