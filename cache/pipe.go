package cache

import "sync"

// pipe hands blocks to a goroutine that computes digests, so that fetching and
// hashing take turns on no core. It holds a few blocks at most.
type pipe struct {
	in   chan piece
	done chan struct{}
	once sync.Once
}

// piece is a block with a reference to give up, or so many zeros.
type piece struct {
	buf   *buffer
	zeros int
}

// newPipe has sink called with each block in order.
func newPipe(blockSize int64, sink func(block []byte)) *pipe {
	p := &pipe{in: make(chan piece, max(1, min(8, (1<<20)/blockSize))), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		var zeros []byte
		for x := range p.in {
			if x.buf != nil {
				sink(x.buf.data)
				x.buf.release()
				continue
			}
			if len(zeros) < x.zeros {
				zeros = make([]byte, x.zeros)
			}
			sink(zeros[:x.zeros])
		}
	}()
	return p
}

func (p *pipe) feed(buf *buffer) { p.in <- piece{buf: buf} }
func (p *pipe) zeros(n int)      { p.in <- piece{zeros: n} }

// close waits until everything has been hashed.
func (p *pipe) close() {
	p.once.Do(func() { close(p.in) })
	<-p.done
}
