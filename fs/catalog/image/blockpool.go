package image

import (
	"sync"

	"vmcastfs/cache"
	"vmcastfs/xvm"
)

// BlockPool keeps what inflating a block needs for the next one.
type BlockPool struct {
	decoders sync.Pool // of *xvm.BlockDecoder
	buffers  sync.Pool // of *[]byte
}

// inflate returns the plain block, or zeros.
func (p *BlockPool) inflate(stored []byte, plain int) []byte {
	d, _ := p.decoders.Get().(*xvm.BlockDecoder)
	if d == nil {
		d = new(xvm.BlockDecoder)
	}
	defer p.decoders.Put(d)
	out := p.take(plain, false)
	if _, err := d.Decode(stored, out); err != nil {
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
	return make([]byte, n, max(n, int(xvm.MaxStored(cache.DefaultBlockSize))))
}

func (p *BlockPool) give(b []byte) { p.buffers.Put(&b) }
