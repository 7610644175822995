package store

// nextPresent is the first present block at or after b, or the number of blocks.
func (p *presence) nextPresent(b int64) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.next(max(b, 0), p.mapping.end(), presentWord)
}

// NextMissing is the first absent block at or after b, or the number of blocks ([MaxBlocks] while the
// size is unknown).
func (f *File) NextMissing(b int64) int64 {
	f.j.poll()
	return f.present.nextMissing(b)
}

func (p *presence) nextMissing(b int64) int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.mapping.next(max(b, 0), p.mapping.end(), missingWord)
}

// NextData is the first offset at or after off that is not known to be zero, for SEEK_DATA. Absent
// blocks are data. Where there is no data it is the size of the file, for which SEEK_DATA has ENXIO.
// While the size is unknown it is [Unknown].
func (f *File) NextData(off int64) int64 {
	return f.present.nextOffset(f.Size(), off, nonzeroWord)
}

// NextHole is the first offset at or after off that is known to be zero, for SEEK_HOLE. The end of the
// file is one. While the size is unknown it is [Unknown].
func (f *File) NextHole(off int64) int64 {
	return f.present.nextOffset(f.Size(), off, zeroWord)
}

func (p *presence) nextOffset(size, off int64, word func(p *page, w int) uint64) int64 {
	if size == Unknown {
		return Unknown
	}
	off = min(max(off, 0), size)
	p.mu.RLock()
	defer p.mu.RUnlock()
	bs := int64(p.mapping.blockSize)
	b := p.mapping.next(off/bs, p.mapping.end(), word)
	return min(max(off, b*bs), size)
}

// ZerosOf counts the blocks of a file that are known to be zero.
func ZerosOf(f *File) int64 {
	f.present.mu.RLock()
	defer f.present.mu.RUnlock()
	return f.present.mapping.zeros
}

// Present counts the present blocks, those of zeros included, and their bytes in the file.
func (f *File) Present() (blocks, bytes int64) {
	p := f.present
	p.mu.RLock()
	defer p.mu.RUnlock()
	m := p.mapping
	blocks = m.present
	bytes = blocks * int64(m.blockSize)
	if last := m.end() - 1; m.size > 0 && m.has(last) { // it may be short
		bytes -= int64(m.blockSize - m.blockLen(last))
	}
	return blocks, bytes
}
