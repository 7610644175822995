package store

// NextPresent is the first present block at or after b, or the number of blocks ([MaxBlocks] while the size is
// unknown).
func (f *File) NextPresent(b int64) int64 {
	f.poll()
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.nextPresent(max(b, 0), f.im.end())
}

// NextMissing is the first absent block at or after b, or the number of blocks.
func (f *File) NextMissing(b int64) int64 {
	f.poll()
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.nextMissing(max(b, 0), f.im.end())
}

// NextData is the first offset at or after off that is not known to be zero, for SEEK_DATA: what is absent is data.
// It is the size of the file, for which SEEK_DATA has ENXIO, if there is none; [Unknown] while the size is.
func (f *File) NextData(off int64) int64 { return f.extent(off, (*blockMap).nextNonzero) }

// NextHole is the first offset at or after off that is known to be zero, for SEEK_HOLE; the end of the file is one.
func (f *File) NextHole(off int64) int64 { return f.extent(off, (*blockMap).nextZero) }

func (f *File) extent(off int64, next func(*blockMap, int64, int64) int64) int64 {
	size := f.Size()
	if size == Unknown {
		return Unknown
	}
	off = min(max(off, 0), size)
	f.mu.RLock()
	defer f.mu.RUnlock()
	b := next(&f.im.blockMap, off/int64(f.blockSize), f.im.end())
	return min(max(off, b*int64(f.blockSize)), size)
}

// Present counts the present blocks, those of zeros included, and their bytes in the file.
func (f *File) Present() (blocks, bytes int64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	blocks = f.im.present
	return blocks, f.im.bytes(blocks, func(b int64) bool { return f.im.has(b) })
}

// ZeroBytes counts the bytes in blocks that are known to be all zero.
func (f *File) ZeroBytes() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.im.bytes(f.im.zeros, func(b int64) bool { _, zero, _ := f.im.get(b); return zero })
}

// bytes turns a number of blocks into bytes; last says whether the last block, which may be short, is one of them.
func (m *image) bytes(blocks int64, among func(last int64) bool) int64 {
	n := blocks * int64(m.blockSize)
	if last := m.end() - 1; m.size > 0 && among(last) {
		n -= int64(m.blockSize - m.blockLen(last))
	}
	return n
}
