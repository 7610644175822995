package xvm

import (
	"context"
	"io"
	"sort"
	"time"
)

// ReaderAt reads the archive. ReadAt has the semantics of io.ReaderAt and may be slow: one call is meant to be
// one HTTP range request. Walk calls it from one goroutine at a time.
type ReaderAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Limits bounds what Walk accepts. A zero field means the default given with it. Beyond a limit Walk returns
// ErrTarLimit.
type Limits struct {
	Members     int   // headers of any type, shown or hidden; 65536
	HeaderBytes int64 // bytes of names, extended headers and sparse maps in the whole archive, and 64 for each directory that names imply; 16 MiB
	Regions     int   // regions in all sparse maps together; 262144
	Size        int64 // apparent size of all members together, in bytes; 64 TiB
	Requests    int   // calls of ReadAt; 32768
}

// indexVersion is the version of Index that Walk writes and Validate accepts.
const indexVersion = 1

// Index says where the content of each member of an archive is. It is plain data that survives JSON; whoever
// reads one back from a disk calls Validate before use.
type Index struct {
	Version   int      // indexVersion
	Size      int64    // of the archive, in bytes
	Root      string   `json:",omitempty"` // directory of the archive that is the package's root; "": the archive's own
	Members   []Member // regular files, in the order of the archive; names are unique
	Hidden    []Hidden // what is in the archive and not shown, in the order of the archive
	Truncated string   // why the walk ended before a proper end of the archive; "" if it did not
}

// Member is a regular file in the archive, or a hard link to an earlier one.
type Member struct {
	Name     string    // canonical path, relative to Index.Root: safe components joined by "/", valid UTF-8
	Offset   int64     // where its stored content begins in the archive, in bytes
	Stored   int64     // bytes of content stored there; the headers and a sparse map before it are not counted
	Size     int64     // bytes of the file; more than Stored if it is sparse
	Segments []Segment // where a sparse file has data, ascending; the rest is zeros. nil: one plain run of Stored bytes at Offset
	ModTime  time.Time // zero if unknown, or not between the years 1900 and 9999
	Mode     uint32    // permission bits, only those of 0444
	Link     string    // for a hard link, the Name of the earlier member that it is the same file as
}

// At says where byte off of the file lies in the archive, -1 if it is in a hole, and
// how many bytes from there on lie together.
func (m *Member) At(off int64) (at, n int64) {
	if m.Segments == nil {
		return m.Offset + off, m.Size - off
	}
	i := sort.Search(len(m.Segments), func(i int) bool { return m.Segments[i].Logical+m.Segments[i].Len > off })
	if i == len(m.Segments) {
		return -1, m.Size - off
	}
	seg := m.Segments[i]
	if seg.Logical > off {
		return -1, seg.Logical - off
	}
	return seg.Archive + off - seg.Logical, seg.Logical + seg.Len - off
}

// Reader reads n bytes of the file from off. data is what is stored of those: the
// segments lie one behind the other in the archive.
func (m *Member) Reader(data io.Reader, off, n int64) io.Reader {
	return &memberReader{m, data, off, off + n}
}

type memberReader struct {
	m        *Member
	data     io.Reader
	pos, end int64
}

func (r *memberReader) Read(p []byte) (int, error) {
	if r.pos >= r.end {
		return 0, io.EOF
	}
	at, run := r.m.At(r.pos)
	p = p[:min(int64(len(p)), run, r.end-r.pos)]
	n, err := len(p), error(nil)
	if at < 0 {
		clear(p)
	} else if n, err = r.data.Read(p); n > 0 && err == io.EOF {
		err = nil
	} else if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	r.pos += int64(n)
	return n, err
}

// Segment is a run of data of a sparse member.
type Segment struct {
	Logical int64 // offset in the file
	Archive int64 // offset in the archive
	Len     int64 // bytes, > 0
}

// Hidden is an entry of the archive that is not shown.
type Hidden struct {
	Name   string // as stored, made fit for a terminal and cut to 255 bytes
	Reason string
}
