package pack

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// spool is a temporary file without a name.
type spool struct {
	*os.File
	size int64
}

func newSpool(dir string) (*spool, error) {
	f, err := TempFile(dir)
	if err != nil {
		return nil, fmt.Errorf("temporary file: %w", err)
	}
	return &spool{File: f}, nil
}

// TempFile makes a file without a name in a directory, "" for that of the system. It goes
// with the process.
func TempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".vmcastfs-*.tmp")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (s *spool) Write(p []byte) (int, error) {
	n, err := s.File.Write(p)
	s.size += int64(n)
	return n, err
}

// rewind makes what was written readable from its start.
func (s *spool) rewind() error {
	_, err := s.File.Seek(0, io.SeekStart)
	return err
}

// member is a run of a spool with its sums.
type member struct {
	name         string
	off, size    int64
	sha1, sha256 *sums.Digest
}

// memberWriter writes one member to a spool.
type memberWriter struct {
	*bufio.Writer
	spool *spool
	member
}

// newMember begins a member behind what the spool holds. Further writers get
// the same bytes.
func (s *spool) newMember(name string, more ...io.Writer) *memberWriter {
	m := &memberWriter{spool: s, member: member{
		name: name, off: s.size, sha1: sums.NewDigest(sums.Sum{Algo: sums.SHA1}), sha256: sums.NewDigest(sums.Sum{Algo: sums.SHA256}),
	}}
	m.Writer = bufio.NewWriterSize(append(fan{s, m.sha1, m.sha256}, more...), chunk)
	return m
}

func (m *memberWriter) finish() (member, error) {
	if err := m.Flush(); err != nil {
		return member{}, err
	}
	m.size = m.spool.size - m.off
	return m.member, nil
}

// section is a run of a spool for package seekable.
type section struct {
	f   *os.File
	off int64
	n   int64
}

func (s section) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return io.NewSectionReader(s.f, s.off, s.n).ReadAt(p, off)
}

// reader reads exactly n bytes of r while ctx lasts, and tells how far it is.
type reader struct {
	ctx      context.Context
	r        io.Reader
	name     string
	left     int64
	progress func(n int64)
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.r.Read(p[:min(int64(len(p)), max(r.left, 1))])
	r.left -= int64(n)
	switch {
	case r.left < 0, err == io.EOF && r.left > 0:
		return 0, fmt.Errorf("%s changed its size while it was read", r.name)
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("read %s: %w", r.name, err)
	}
	r.progress(int64(n))
	return n, err
}

// part is the member of a spool that has been rewound; its parts are read in their order.
func (m member) part(from *spool) part {
	return part{m.name, m.size, from.File, m.sha1.Got(), m.sha256.Got()}
}

// spoolList spools the block list that fill writes, and rewinds it.
func spoolList(dir string, fill func(*xvm.BlockListWriter) error) (*spool, part, error) {
	s, err := newSpool(dir)
	if err != nil {
		return nil, part{}, err
	}
	m := s.newMember(xvm.BlockListName)
	list := xvm.NewBlockListWriter(m)
	var done member
	if err = fill(list); err == nil {
		err = list.Close()
	}
	if err == nil {
		done, err = m.finish()
	}
	if err == nil {
		err = s.rewind()
	}
	if err != nil {
		s.Close()
		return nil, part{}, err
	}
	return s, done.part(s), nil
}
