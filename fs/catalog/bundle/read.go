package bundle

import (
	"context"

	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// readDoc walks a tar archive of size bytes and reads the members that describe the
// rest. It calls more once that is going to take long.
func readDoc(ctx context.Context, a xvm.ReaderAt, size int64, more func()) (*Doc, error) {
	index, err := archive.Walk(ctx, a, size, more)
	if err != nil {
		return nil, err
	}
	small, err := xvm.ReadSmall(ctx, a, index)
	if err != nil {
		return nil, err
	}
	doc := &Doc{Version: docVersion, Index: index, Meta: small}
	doc.compact()
	return doc, nil
}

// bareDoc is the document of a disk image of size bytes, as if it were the one
// member of an archive without headers. Sum is its SHA-256 by the feed, or "".
func bareDoc(name string, size int64, sum string) *Doc {
	return &Doc{Version: docVersion, Index: xvm.BareIndex(name, size), Meta: make(map[string][]byte), SHA256: sum}
}
