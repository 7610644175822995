package bundle

import (
	"hash"
	"io"
)

// digestReader computes digests of what is read, and remembers why reading
// failed.
type digestReader struct {
	r      io.Reader
	hashes []hash.Hash
	err    error
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	for _, h := range d.hashes {
		h.Write(p[:n])
	}
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}
