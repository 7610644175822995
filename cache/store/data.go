package store

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// dataFile holds the bytes of a file, block b at b × block size.
type dataFile struct {
	f         *os.File
	blockSize int
	readOnly  bool // nothing changes it: punch, clear, fit and empty do nothing
}

func (d dataFile) offset(b int64) int64 { return b * int64(d.blockSize) }

// punch gives the disk space of n blocks from b on back; they read as zeros.
func (d dataFile) punch(b, n int64) error {
	if d.readOnly {
		return nil
	}
	return control(d.f, func(fd int) error {
		return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, d.offset(b), d.offset(n))
	})
}

// clear makes sure that absent blocks read as zeros: a crash may have left bytes there. size is that of
// the file, or Unknown.
func (d dataFile) clear(b, n, size int64) error {
	if d.readOnly {
		return nil
	}
	from, to := d.offset(b), d.offset(b+n)
	var at int64
	err := control(d.f, func(fd int) (err error) {
		at, err = unix.Seek(fd, from, unix.SEEK_DATA)
		return err
	})
	if errors.Is(err, unix.ENXIO) || err == nil && at >= to {
		return nil
	}
	if err := d.punch(b, n); err == nil {
		return nil
	}
	if size != Unknown {
		to = min(to, size)
	}
	zeros := make([]byte, d.blockSize)
	for ; from < to; from += int64(len(zeros)) {
		if _, err := d.f.WriteAt(zeros[:min(int64(len(zeros)), to-from)], from); err != nil {
			return err
		}
	}
	return nil
}

// fit gives the data file the length of the file, so that the kernel can read it in our place.
func (d dataFile) fit(size int64) error {
	if d.readOnly {
		return nil
	}
	if st, err := fstat(d.f); err != nil || st.Size == size {
		return err
	}
	return d.f.Truncate(size)
}

// empty gives up all blocks.
func (d dataFile) empty(size int64) error {
	if err := d.fit(0); err != nil || size == Unknown {
		return err
	}
	return d.fit(size)
}

// share lets n bytes of block b lie where those of block at of another file do.
func (d dataFile) share(b int64, n int, from dataFile, at int64) error {
	return control(d.f, func(fd int) error {
		return control(from.f, func(source int) error {
			return unix.IoctlFileCloneRange(fd, &unix.FileCloneRange{
				Src_fd: int64(source), Src_offset: uint64(from.offset(at)), Src_length: uint64(n),
				Dest_offset: uint64(d.offset(b)),
			})
		})
	})
}
