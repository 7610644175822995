package pack

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// faultsNamed is how many wrong blocks of an image are named one by one.
const faultsNamed = 5

// comparison compares the blocks of an image with those of the list.
//
// mu guards all but the first two.
type comparison struct {
	image  *xvm.ImageBlocks
	hasher *sums.Hasher // of those compared in order

	mu     sync.Mutex
	blocks int64 // compared so far
	wrong  int64
	named  []string
}

// blocksOf compares the blocks of an image without a member, or with this one;
// nil if the list has none.
func (c *checker) blocksOf(name, member string) *comparison {
	image := c.list.Image(name)
	if image == nil || image.Member != member {
		return nil
	}
	v := &comparison{image: image}
	v.hasher = sums.NewHasher(image.BlockSize, func(sum [32]byte, zero bool) error {
		v.see(v.blocks, sum, zero)
		return nil
	})
	return v
}

// see compares block i.
func (v *comparison) see(i int64, sum [32]byte, zero bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.blocks++
	want, wantZero, ok := v.image.Sum(i)
	switch {
	case !ok: // beyond the end: judge says so
	case wantZero && !zero, !wantZero && sum != want:
		v.bad(i, "differs")
	}
}

// bad notes a wrong block; mu is held.
func (v *comparison) bad(i int64, how string) {
	v.wrong++
	if len(v.named) < faultsNamed {
		v.named = append(v.named, fmt.Sprintf("block %d (at %d) %s", i, i*int64(v.image.BlockSize), how))
	}
}

// judge says what came out. size is the length of what was compared.
func (v *comparison) judge(f *FileReport, size int64) {
	if err := v.hasher.Finish(); err != nil {
		f.fault("%v", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if size != v.image.Size {
		f.fault("it has %d bytes, the block list says %d", size, v.image.Size)
		return
	}
	for _, text := range v.named {
		f.fault("%s", text)
	}
	if more := v.wrong - int64(len(v.named)); more > 0 {
		f.fault("and %d more blocks", more)
	}
	if v.wrong == 0 {
		f.listed = fmt.Sprintf("all %d blocks", v.image.Blocks())
	}
}

// unit is a run of a member: one block, or zero blocks side by side.
type unit struct {
	first  int64 // block
	plain  int64 // bytes
	zero   bool
	stored []byte
}

// blockwise inflates a member block by block, on all cores.
func (c *checker) blockwise(r io.Reader, f *FileReport, image *xvm.ImageBlocks) error {
	v := c.blocksOf(image.Name, image.Member)
	r = bufio.NewReaderSize(r, chunk)
	workers := c.o.Workers
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	waiting := workers * max(2, 2*chunk/image.BlockSize) // enough that no worker sleeps because another was late
	work := make(chan unit, waiting)
	free := make(chan []byte, 2*waiting)
	var wait sync.WaitGroup
	for range workers {
		wait.Go(func() {
			var in inflater
			for u := range work {
				in.check(v, u)
				select {
				case free <- u.stored:
				default:
				}
			}
		})
	}
	err := cutUnits(image, func(u unit, n int64) error {
		select {
		case u.stored = <-free:
		default:
		}
		if int64(cap(u.stored)) < n {
			u.stored = make([]byte, n)
		}
		u.stored = u.stored[:n]
		if _, err := io.ReadFull(r, u.stored); err != nil {
			return err
		}
		work <- u
		return nil
	})
	close(work)
	wait.Wait()
	if err != nil {
		return err
	}
	f.Size = image.Size
	v.judge(f, image.Size)
	return nil
}

// zeroRun is the most stored bytes of zero blocks taken as one unit in memory.
const zeroRun = 4 << 20

// cutUnits cuts an image into units; each reads n bytes of the member.
func cutUnits(image *xvm.ImageBlocks, each func(u unit, n int64) error) error {
	at, blocks := int64(0), image.Blocks()
	end := func(i int64) int64 { return min(i*int64(image.BlockSize), image.Size) } // where block i begins
	for i := int64(0); i < blocks; {
		off, n, ok := image.Place(i)
		if ok {
			if err := each(unit{first: i, plain: end(i+1) - end(i)}, n); err != nil {
				return err
			}
			at = off + n
			i++
			continue
		}
		j := i + 1
		for j < blocks {
			if _, _, ok := image.Place(j); ok {
				break
			}
			j++
		}
		to := image.Stored
		if j < blocks {
			to, _, _ = image.Place(j)
		}
		// All zero blocks of a run but the last of the image are alike, so that a long run can be cut evenly;
		// if they are not, the check of the pieces fails as it should.
		for i < j {
			k := j - i
			n := to - at
			if n > zeroRun && k > 1 {
				each := max(n/k, 1)
				k = min(k-1, max(zeroRun/each, 1))
				n = k * each
			}
			if n > 16*zeroRun {
				return errors.New("zero blocks take too much space")
			}
			if err := each(unit{first: i, plain: end(i+k) - end(i), zero: true}, n); err != nil {
				return err
			}
			i += k
			at += n
		}
	}
	return nil
}

// inflater checks units, one after the other.
type inflater struct {
	xvm.BlockDecoder
	plain []byte
}

func (in *inflater) check(v *comparison, u unit) {
	if err := in.inflate(v, u); err != nil {
		v.mu.Lock()
		v.bad(u.first, err.Error())
		v.mu.Unlock()
	}
}

func (in *inflater) inflate(v *comparison, u unit) error {
	block := v.image.BlockSize
	if cap(in.plain) < block {
		in.plain = make([]byte, block)
	}
	for i, left := u.first, u.plain; left > 0; i++ {
		p := in.plain[:min(left, int64(block))]
		rest, err := in.Decode(u.stored, p)
		if err != nil {
			return fmt.Errorf("cannot be decompressed: %w", err)
		}
		u.stored = u.stored[len(u.stored)-rest:]
		left -= int64(len(p))
		if u.zero {
			v.see(i, [32]byte{}, sums.Zero(p))
		} else {
			v.see(i, sha256.Sum256(p), false)
		}
	}
	if len(u.stored) > 0 {
		return errors.New("is not one gzip member")
	}
	return nil
}
