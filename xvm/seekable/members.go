package seekable

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/gzip"
)

// A Member is one gzip member written by a MemberWriter.
type Member struct {
	Index  int64    // number of the block, from 0
	Offset int64    // of the member in the output, bytes
	Stored int64    // length of the member, bytes
	Sum    [32]byte // SHA-256 of the block
	Zero   bool     // the block is all zeros
}

// MemberOptions configure a MemberWriter.
type MemberOptions struct {
	BlockSize int                // plain bytes per member; default 64 KiB, 4 KiB to 16 MiB
	Level     int                // 1 (fast) to 9 (small); default 6
	Workers   int                // default: all cores
	Done      func(Member) error // called in order, by Write and Close; its error ends the writing
}

// A MemberWriter compresses what is written to it as concatenated independent gzip members, one for each block, on all
// cores. The output depends on the input, block size and level alone: headers carry no time and no name. Empty input
// makes one empty member, so that the output is a gzip file in any case.
//
// It is for one goroutine, and Close must be called, after an error too. Memory is bounded by 2 MiB of blocks, but two
// at least, and their compressed form for each worker.
type MemberWriter struct {
	w     io.Writer
	o     MemberOptions
	block *memberJob   // being filled
	queue []*memberJob // at work, in order
	free  []*memberJob
	work  chan *memberJob
	next  Member // index and offset of the next one written
	err   error
}

type memberJob struct {
	plain []byte
	out   bytes.Buffer
	sum   [32]byte
	zero  bool
	err   error
	done  chan struct{}
}

// jobBytes is how much waits for each worker: enough that none sleeps because another was late.
const jobBytes = 2 << 20

// NewMemberWriter writes to w.
func NewMemberWriter(w io.Writer, o MemberOptions) (*MemberWriter, error) {
	if o.BlockSize == 0 {
		o.BlockSize = 64 << 10
	}
	if o.Level == 0 {
		o.Level = 6
	}
	if o.Workers == 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.BlockSize < 4<<10 || o.BlockSize > 16<<20 || o.Level < 1 || o.Level > 9 || o.Workers < 0 {
		return nil, fmt.Errorf("%w: members of %d bytes, level %d, %d workers", ErrLimit, o.BlockSize, o.Level, o.Workers)
	}
	m := &MemberWriter{w: w, o: o, work: make(chan *memberJob, o.Workers*max(2, jobBytes/o.BlockSize))}
	for range o.Workers {
		go m.compress(m.work)
	}
	return m, nil
}

// compress is a worker. Most blocks of zeros are alike, so that one is done once.
func (m *MemberWriter) compress(work <-chan *memberJob) {
	z, err := gzip.NewWriterLevel(nil, m.o.Level)
	var zeros []byte // a whole block of zeros, compressed
	var zerosSum [32]byte
	for j := range work {
		j.zero = len(j.plain) > 0 && j.plain[0] == 0 && bytes.Equal(j.plain[1:], j.plain[:len(j.plain)-1])
		j.out.Reset()
		whole := j.zero && len(j.plain) == m.o.BlockSize
		switch {
		case err != nil:
			j.err = err
		case whole && zeros != nil:
			j.sum = zerosSum
			j.out.Write(zeros)
		default:
			j.sum = sha256.Sum256(j.plain)
			z.Reset(&j.out)
			z.ModTime = time.Unix(0, 0) // none: of the zero time it writes some bits
			if _, j.err = z.Write(j.plain); j.err == nil {
				j.err = z.Close()
			}
			if whole && j.err == nil {
				zeros, zerosSum = bytes.Clone(j.out.Bytes()), j.sum
			}
		}
		j.done <- struct{}{}
	}
}

func (m *MemberWriter) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 && m.err == nil {
		if m.block == nil {
			m.block = m.job()
			continue
		}
		b := m.block
		k := min(len(p), m.o.BlockSize-len(b.plain))
		b.plain = append(b.plain, p[:k]...)
		p = p[k:]
		n += k
		if len(b.plain) == m.o.BlockSize {
			m.send()
		}
	}
	return n, m.err
}

// job gives an empty block, after writing out the oldest one if all are at work.
func (m *MemberWriter) job() *memberJob {
	if len(m.queue) == cap(m.work) {
		m.flush()
	}
	if n := len(m.free); n > 0 {
		j := m.free[n-1]
		m.free = m.free[:n-1]
		return j
	}
	return &memberJob{plain: make([]byte, 0, m.o.BlockSize), done: make(chan struct{}, 1)}
}

func (m *MemberWriter) send() {
	m.queue = append(m.queue, m.block)
	m.work <- m.block
	m.block = nil
}

// flush writes out the oldest block.
func (m *MemberWriter) flush() {
	j := m.queue[0]
	m.queue = m.queue[1:]
	<-j.done
	if m.err == nil {
		m.err = j.err
	}
	if m.err == nil {
		_, m.err = m.w.Write(j.out.Bytes())
	}
	if m.err == nil {
		m.next.Stored, m.next.Sum, m.next.Zero = int64(j.out.Len()), j.sum, j.zero
		if m.o.Done != nil {
			m.err = m.o.Done(m.next)
		}
		m.next.Index++
		m.next.Offset += m.next.Stored
	}
	j.plain = j.plain[:0]
	m.free = append(m.free, j)
}

// Close writes what is left and ends the workers; it does not close the writer below.
func (m *MemberWriter) Close() error {
	if m.work == nil {
		return m.err
	}
	if m.err == nil && m.block == nil && m.next.Index == 0 && len(m.queue) == 0 {
		m.block = m.job()
	}
	if m.block != nil && m.err == nil {
		m.send()
	}
	for len(m.queue) > 0 {
		m.flush()
	}
	close(m.work)
	m.work = nil
	if m.err != nil {
		return m.err
	}
	m.err = ErrClosed // of a later Write
	return nil
}
