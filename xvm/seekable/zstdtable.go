package seekable

import (
	"context"
	"encoding/binary"
	"io"
)

// The seek table of the zstd seekable format, version 0.1.0 (contrib/seekable_format in the zstd sources): a skippable
// frame at the end of the file that holds the stored and plain size of each frame, and ends in a footer.
const (
	seekTableMagic = 0x184d2a5e
	seekFooter     = 0x8f92eab1
	seekFooterLen  = 9
	zstdFramesMax  = 1 << 20
	// zstdWalkMax is the longest file without a seek table whose frames and blocks are walked for the plain size:
	// that takes a read for every 128 KiB of a file, nearly all of it when it comes in such blocks.
	zstdWalkMax = 4 << 20
)

func (r *Reader) zstdTable(ctx context.Context) error {
	head := make([]byte, min(r.stored, HeadMax))
	if err := r.readAt(ctx, head, 0); err != nil {
		return err
	}
	if err := refuseZstd(head, r.o.MaxWindow); err != nil {
		return &refusal{0, err}
	}
	if err := r.seekTable(ctx); err == nil || err != errNoTable {
		return err
	}
	if r.stored > zstdWalkMax {
		return errNoTable
	}
	return r.walkZstd(ctx)
}

// seekTable shows the index what the seek table says, errNoTable if there is none.
func (r *Reader) seekTable(ctx context.Context) error {
	var foot [seekFooterLen]byte
	if r.stored < 8+seekFooterLen {
		return errNoTable
	}
	if err := r.readAt(ctx, foot[:], r.stored-seekFooterLen); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(foot[5:]) != seekFooter {
		return errNoTable
	}
	n, flags := int64(binary.LittleEndian.Uint32(foot[:])), foot[4]
	if flags&0x7c != 0 {
		return errNoTable // of a version to come
	}
	entry := int64(8)
	if flags&0x80 != 0 {
		entry = 12 // with a checksum of the plain frame; the frame's own is checked already
	}
	if n > zstdFramesMax {
		return limited("zstd frames", n)
	}
	size := n*entry + seekFooterLen
	at := r.stored - size - 8
	if at < 0 {
		return corrupt("size of the zstd seek table")
	}
	b := make([]byte, 8+n*entry)
	if err := r.readAt(ctx, b, at); err != nil {
		return err
	}
	if binary.LittleEndian.Uint32(b) != seekTableMagic || int64(binary.LittleEndian.Uint32(b[4:])) != size {
		return corrupt("header of the zstd seek table")
	}
	b = b[8:]
	in := int64(0)
	for i := range n {
		in += int64(binary.LittleEndian.Uint32(b[i*entry:]))
	}
	if in != at {
		return corrupt("zstd seek table does not fit the file")
	}
	in = 0
	out := int64(0)
	for i := range n {
		r.x.addStated(point{out: out, in: in * 8, trust: stated})
		in += int64(binary.LittleEndian.Uint32(b[i*entry:]))
		out += int64(binary.LittleEndian.Uint32(b[i*entry+4:]))
	}
	r.x.setStated(out)
	return nil
}

// walkZstd goes over the frames and blocks of a short file, and adds up the sizes of the frames if all tell theirs.
func (r *Reader) walkZstd(ctx context.Context) error {
	in := newInput(ctx, r.src, r.stored, 0, r.o.chunks)
	defer in.close()
	size := int64(0)
	for in.pos() < r.stored {
		_, f, err := readZstd(in)
		if err != nil {
			return err
		}
		if f.skip >= 0 {
			if err := in.skip(f.skip); err != nil {
				return err
			}
			continue
		}
		if f.size < 0 {
			return errNoTable
		}
		if size += f.size; size > maxPlain {
			return corrupt("zstd frame size")
		}
		for last := false; !last; {
			var b [3]byte
			if err := in.full(b[:]); err != nil {
				return err
			}
			var n int64
			if n, last, err = parseZstdBlock(b[:]); err != nil {
				return err
			}
			if err = in.skip(n); err != nil {
				return err
			}
		}
		if f.checksum {
			if err := in.skip(4); err != nil {
				return err
			}
		}
	}
	if r.stored == 0 {
		return io.ErrUnexpectedEOF
	}
	r.x.setStated(size)
	return nil
}
