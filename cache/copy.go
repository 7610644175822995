package cache

import "crypto/sha256"

// copyOf says where another file of the store should have the block of e.
func (j *job) copyOf(e *entry) place {
	f := j.f
	sums := f.blockSums()
	if f.spec.Copies == nil || sums == nil || e.alone {
		return place{}
	}
	sum, zero, ok := sums.Sum(e.b)
	if !ok || zero {
		return place{}
	}
	from, at, ok := f.spec.Copies(e.b, sum)
	if !ok {
		return place{}
	}
	return place{from, at}
}

// copied delivers the first block of what is left from another file of the
// store. It reports false if that has to be fetched.
func (j *job) copied() bool {
	f, e := j.f, j.left[0]
	p := j.copyOf(e)
	if p.file == nil {
		return false
	}
	n := f.blockLen(e.b)
	buf := f.c.buffers.get(p.file.BlockSize())
	got, err := p.file.ReadBlock(p.at, buf.data)
	want, _, _ := f.blockSums().Sum(e.b)
	if err != nil || got != n || sha256.Sum256(buf.data[:n]) != want {
		buf.discard()
		e.alone = true // evicted since, or a block that only looks the same
		return false
	}
	buf.data = buf.data[:n]
	j.left = j.left[1:]
	j.progress.Add(1)
	f.publish(e, buf, p)
	return true
}
