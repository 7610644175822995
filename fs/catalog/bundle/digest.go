package bundle

import (
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm/sums"
)

// digest tells the content of the file from any other, as "KIND:HEX". What makes a
// disk of a machine keeps it, so that nothing starts on another content. The kinds:
//
//	sha512, sha256, sha1  of the file, by the manifest or the feed
//	stored-sha512, …      of the compressed member that it is inflated from
//	parts                 of a disk of partition images: of all their digests
//	version               of what the server said of the archive; no sum is known
//
// It never touches the network.
func (f *File) digest() string {
	v := f.shared.verdict()
	name, stored := f.name, ""
	if f.origin == inflated {
		name, stored = f.base, "stored-"
	}
	if v.Sums != nil && f.origin != chunked {
		for _, s := range v.Sums.Sums(name) {
			if s.Prefix == 0 && s.Algo != sums.MD5 {
				return stored + s.Algo + ":" + s.Hex
			}
		}
	}
	switch j, isJoined := f.content.(*joined); {
	case isJoined && j.disk() == nil:
		return ""
	case isJoined:
		parts := []string{j.seed, j.disk().Describe()}
		for _, p := range j.disk().Parts() {
			parts = append(parts, p.(*File).digest())
		}
		return "parts:" + string(archive.Key(parts...))
	case f.claimed != "":
		return "sha256:" + f.claimed
	case f.bare != "":
		return "version:" + string(f.bare)
	}
	return "version:" + string(f.key)
}
