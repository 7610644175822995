package cache

import "sync"

// pipe computes digests in a goroutine of its own, so that fetching and hashing
// take turns on no core. It holds a few blocks at most.
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

func newPipe(d *digests) *pipe {
	p := &pipe{in: make(chan piece, 8), done: make(chan struct{})}
	go func() {
		defer close(p.done)
		var zeros []byte
		for x := range p.in {
			if x.buf != nil {
				d.Write(x.buf.data)
				x.buf.release()
				continue
			}
			if len(zeros) < x.zeros {
				zeros = make([]byte, x.zeros)
			}
			d.Write(zeros[:x.zeros])
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
