package catalog

import (
	"encoding/json"

	"vmcastfs/fs/catalog/image"
)

// BootPieces is in how many pieces the record of a boot shows its image.
const BootPieces = 512

// Boot is what the mount knows of one image and of its last boot: the content of
// .vmcastfs/KEY.boot.
type Boot struct {
	Release string `json:"release"`
	File    string `json:"file"`
	image.Picture
}

// PictureOf is the Boot of an image in at most n pieces; boot: with its last boot. ok:
// there is such an image in a release that has been indexed.
func PictureOf(c *Catalog, release, file string, n int, boot bool) (b Boot, ok bool) {
	r, ok := c.Snapshot().Release(release)
	if !ok {
		return b, false
	}
	p, ok := r.Peek()
	if !ok {
		return b, false
	}
	f := p.File(file)
	if f == nil {
		return b, false
	}
	pic, ok := f.Picture(n, boot)
	return Boot{release, file, pic}, ok
}

// BootJSON is the Boot of the image of that key in the cache; nil: there is no such
// image in a release that has been indexed. Nobody may write to it.
func BootJSON(c *Catalog, key string) []byte {
	for _, r := range c.Snapshot().releases {
		p, ok := r.Peek()
		if !ok {
			continue
		}
		for _, f := range p.All() {
			if k, ok := f.Attr("user.vmcast.key"); !ok || string(k) != key {
				continue
			}
			if pic, ok := f.Picture(BootPieces, true); ok {
				raw, err := json.Marshal(Boot{r.Name(), f.Name(), pic})
				if err != nil {
					return nil // of plain values: cannot be
				}
				return append(raw, '\n')
			}
		}
	}
	return nil
}
