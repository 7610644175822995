package bundle

import "vmcastfs/fs/catalog/image"

// contradicted: sums say that the bytes are wrong. If they came with another validator,
// the server has another archive.
func (b *builder) contradicted() {
	if b.archive.Contradicted() {
		b.shared.release.Replaced()
	}
}

// tellCorrupt tells of a file whose content is wrong, and of those that are made
// of it.
func tellCorrupt(release Release, files map[string]*File, f *File) {
	madeOf(files, f, func(g *File) { release.Corrupt(g.name, g.Inode()) })
}

// madeOf calls fn with a file, and with those that are made of it.
func madeOf(files map[string]*File, f *File, fn func(*File)) {
	fn(f)
	for _, g := range files {
		switch c := g.content.(type) {
		case *image.Image:
			if f.image() != nil && c.InflatedFrom(f.image()) {
				madeOf(files, g, fn)
			}
		case *joined:
			if c.has(f) {
				madeOf(files, g, fn)
			}
		}
	}
}
