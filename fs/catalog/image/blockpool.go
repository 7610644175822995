package image

import (
	"bytes"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"

	"vmcastfs/cache"
)

// BlockPool keeps what inflating a block needs for the next one.
type BlockPool struct {
	inflaters sync.Pool // of *gzip.Reader
	buffers   sync.Pool // of *[]byte
}

// inflate returns the plain block, or zeros.
func (p *BlockPool) inflate(stored []byte, plain int) []byte {
	out := p.take(plain, false)
	z, _ := p.inflaters.Get().(*gzip.Reader)
	var err error
	if z == nil {
		z, err = gzip.NewReader(bytes.NewReader(stored))
	} else {
		err = z.Reset(bytes.NewReader(stored))
	}
	if err == nil {
		z.Multistream(false)
		if _, err = io.ReadFull(z, out); err == nil {
			var one [1]byte
			if n, end := z.Read(one[:]); n != 0 || end != io.EOF { // the checksum too
				err = gzip.ErrChecksum
			}
		}
	}
	if z != nil {
		p.inflaters.Put(z)
	}
	if err != nil {
		clear(out)
	}
	return out
}

func (p *BlockPool) take(n int, zero bool) []byte {
	if b, _ := p.buffers.Get().(*[]byte); b != nil && cap(*b) >= n {
		if zero {
			clear((*b)[:n])
		}
		return (*b)[:n]
	}
	return make([]byte, n, max(n, int(maxStored(cache.DefaultBlockSize))))
}

func (p *BlockPool) give(b []byte) { p.buffers.Put(&b) }

// maxStored bounds what one block is fetched for: gzip adds little to what it
// cannot compress, and who stores more wants something else.
func maxStored(plain int) int64 { return int64(plain) + int64(plain)/8 + 4096 }
