package seekable

import (
	"errors"
	"io"
)

// A Member is one gzip member written by a MemberWriter.
type Member struct {
	Index  int64    // number of the block, from 0
	Offset int64    // of the member in the output, bytes
	Stored int64    // length of the member, bytes
	Plain  int      // length of the block, bytes
	Sum    [32]byte // SHA-256 of the block
	Zero   bool     // the block is all zeros
}

// MemberOptions configure a MemberWriter.
type MemberOptions struct {
	BlockSize int                // plain bytes per member; default 64 KiB, 4 KiB to 16 MiB
	Level     int                // 1 (fast) to 9 (small); default 6
	Workers   int                // default: all cores
	Done      func(Member) error // called in order, from Write and Close; its error ends the writing
}

// A MemberWriter compresses what is written to it as concatenated gzip members, one for each block.
type MemberWriter struct{}

// NewMemberWriter writes to w.
func NewMemberWriter(w io.Writer, o MemberOptions) (*MemberWriter, error) {
	return nil, errors.ErrUnsupported
}

func (m *MemberWriter) Write(p []byte) (int, error) { return 0, errors.ErrUnsupported }

// Close writes what is left.
func (m *MemberWriter) Close() error { return nil }
