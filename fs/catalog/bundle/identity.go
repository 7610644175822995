package bundle

import (
	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
)

// identity is what the keys of a package's files are made of: the archive, the
// version of it, and its manifest.
type identity []string

// plainKey is the part of its key that tells plain content from what is stored.
// It says which decoder it comes from. The gzip decoder of the first version was
// wrong about some streams. Its blocks, sums and verdicts are not found any more,
// and leave the cache as what nobody reads.
const plainKey = "plain 2"

// key is that of a file. An image that is read with a block list has another one
// than without: what is in the cache has been checked against that list.
func (i identity) key(parts ...string) store.Key {
	return archive.Key(append(i[:len(i):len(i)], parts...)...)
}
