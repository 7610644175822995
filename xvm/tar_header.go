package xvm

import (
	"bytes"
	"errors"
	"math"
	"time"
)

const tarBlockSize = 512

// tarFormat is what the magic of a header says of its fields.
type tarFormat int

const (
	tarV7    tarFormat = iota // name, link and size only
	tarUstar                  // POSIX.1: a prefix of the name; extended headers do not change it
	tarGNU                    // no prefix; times and an old sparse map in its place
	tarOdd                    // "ustar" and something else: programs disagree on what it is
)

// tarBlock is a header block, 512 bytes.
type tarBlock []byte

func (b tarBlock) zero() bool { return len(bytes.Trim(b, "\x00")) == 0 }

// sumOK checks the header's sum. Some old programs summed signed bytes.
func (b tarBlock) sumOK() bool {
	want, err := tarNumber(b[148:156])
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

func (b tarBlock) format() tarFormat {
	switch magic := string(b[257:265]); {
	case magic[:6] == "ustar\x00":
		return tarUstar
	case magic == "ustar  \x00":
		return tarGNU
	case magic[:5] == "ustar":
		return tarOdd
	}
	return tarV7
}

// name joins prefix and name; reason is not empty if programs disagree on where the name ends.
func (b tarBlock) name() (name, reason string) {
	name = tarString(b[:100])
	prefix := tarString(b[345:500])
	switch b.format() {
	case tarUstar:
		if string(b[508:512]) == "tar\x00" && len(prefix) > 131 { // star keeps times behind 131 bytes
			return "", "its name is read differently by different programs (star prefix)"
		}
		if prefix != "" {
			return prefix + "/" + name, ""
		}
	case tarOdd:
		if prefix != "" {
			return "", "its header is neither POSIX nor GNU"
		}
	case tarGNU:
		// Where these are no times, an old bug of Go's writer put a prefix there, and Go reads it.
		if b[345] != 0 && (!tarTimeOK(b[345:357]) || !tarTimeOK(b[357:369])) {
			return "", "its name is read differently by different programs (GNU header with a prefix)"
		}
	}
	return name, ""
}

// strayMap says whether a header that is not of type S has what libarchive takes for a sparse map or a real size.
// The times that star keeps there are neither: GNU tar passes over them, and so do we.
func (b tarBlock) strayMap() bool {
	return b.format() == tarGNU && (b[386] != 0 || (b[482] != 0 || b[483] != 0) && !b.starTimes())
}

// starTimes says whether there is the time of access and that of change where star puts them.
func (b tarBlock) starTimes() bool {
	for _, field := range [][]byte{b[476:488], b[488:500]} {
		if len(bytes.Trim(field[:11], "01234567")) != 0 || field[11] != 0 && field[11] != ' ' {
			return false
		}
	}
	return b[475] == 0
}

func (b tarBlock) modTime() time.Time {
	sec, err := tarNumber(b[136:148])
	if err != nil {
		return time.Time{}
	}
	return tarTime(sec)
}

func (b tarBlock) mode() uint32 {
	mode, err := tarNumber(b[100:108])
	if err != nil {
		return 0o444
	}
	return uint32(mode & 0o444)
}

// tarTime bounds a time to what JSON and every calendar can hold.
func tarTime(sec int64) time.Time {
	if sec < -2208988800 || sec > 253402300799 { // 1900-01-01, 9999-12-31
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

func tarString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

var (
	errTarBlank    = errors.New("number is blank")
	errTarNumber   = errors.New("number is malformed")
	errTarNegative = errors.New("number is negative")
	errTarOverflow = errors.New("number exceeds 2^63-1")
)

// tarNumber reads a numeric field in the forms on which GNU tar, libarchive and Go agree: octal digits after spaces
// and before spaces or NULs, or base-256 (GNU) with a first byte of 0x80.
func tarNumber(b []byte) (int64, error) {
	switch {
	case b[0] == 0xff:
		return 0, errTarNegative
	case b[0] == 0x80:
		var n uint64
		for _, c := range b[1:] {
			if n > math.MaxInt64>>8 {
				return 0, errTarOverflow
			}
			n = n<<8 | uint64(c)
		}
		return int64(n), nil
	}
	digits := bytes.TrimLeft(b, " ")
	end := bytes.IndexAny(digits, " \x00")
	if end < 0 {
		end = len(digits)
	}
	if len(bytes.Trim(digits[end:], " \x00")) != 0 {
		return 0, errTarNumber
	}
	if end == 0 {
		return 0, errTarBlank
	}
	var n int64 // at most 12 octal digits
	for _, c := range digits[:end] {
		if c < '0' || c > '7' {
			return 0, errTarNumber
		}
		n = n<<3 | int64(c-'0')
	}
	return n, nil
}

func tarTimeOK(b []byte) bool {
	_, err := tarNumber(b)
	return err == nil || err == errTarBlank || err == errTarNegative
}
