package cache

import (
	"crypto/sha256"

	"vmcastfs/cache/store"
)

// copyOf says where another file of the store should have the block of f.
func (j *job) copyOf(f *flight) place {
	fl := j.fl
	if fl.copies == nil || f.alone {
		return place{}
	}
	sum, ok, err := fl.local.sum(j.ctx, f.b)
	if !ok || err != nil { // it is told of once the block has come
		return place{}
	}
	from, at, ok := fl.copies(f.b, sum)
	if !ok {
		return place{}
	}
	return place{from, at, sum, string(store.KeyOf(from))}
}

// copied delivers the first block of what is left from another file of the
// store. It reports false if that has to be fetched.
func (j *job) copied() bool {
	fl, f := j.fl, j.left[0]
	p := j.copyOf(f)
	if p.file == nil {
		return false
	}
	n := fl.local.blockLen(f.b)
	buf := fl.s.buffers.get(p.file.BlockSize())
	got, err := p.file.ReadBlock(p.at, buf.data)
	if err != nil || got != n || sha256.Sum256(buf.data[:n]) != p.sum {
		buf.discard()
		f.alone = true // evicted since, or a block that only looks the same
		return false
	}
	buf.data = buf.data[:n]
	j.left = j.left[1:]
	j.progress.Add(1)
	fl.publish(f, buf, p)
	return true
}
