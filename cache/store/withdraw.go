package store

import "fmt"

// DropAll makes every block absent, in all processes, because their content is not to be trusted. end
// is behind the last block that may have been present.
func (f *File) DropAll() (end int64, err error) {
	done, err := f.j.begin()
	if err != nil {
		return 0, err
	}
	defer done()
	if end = f.present.reach(); end == 0 {
		return 0, nil
	}
	if err := f.drop(0, end); err != nil {
		return end, fmt.Errorf("drop all blocks of cached file %.12s: %w", string(f.key), err)
	}
	return end, nil
}

// reach is behind the last block that may be present.
func (p *presence) reach() int64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return min(p.mapping.end(), int64(len(p.mapping.pages))*pageBlocks)
}
