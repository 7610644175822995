package bundle

import (
	"io"

	"vmcastfs/xvm/sums"
)

// digestReader computes digests of what is read, and remembers why reading
// failed.
type digestReader struct {
	r    io.Reader
	sums sums.Digests
	err  error
}

func (d *digestReader) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	d.sums.Write(p[:n])
	if err != nil && err != io.EOF {
		d.err = err
	}
	return n, err
}
