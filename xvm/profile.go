package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A boot profile is the member profile.txt, which the manifest lists. It tells what
// a boot reads, so that it can be fetched before it is asked for. It is a hint and
// changes nothing of what is checked. It is text; every line ends in LF or CRLF:
//
//	profile = "vmcast-profile 1" read*
//	read    = NAME OFFSET LENGTH
//
// Each item is a line. NAME is that of a plain image. OFFSET and LENGTH are bytes in
// decimal digits, separated by one blank each. A name may hold blanks, so that a
// line is read from its end. Reads stand in the order of the boot; they may overlap
// and come again.

// ProfileName is the name of the boot profile in a package.
const ProfileName = "profile.txt"

// Limits of a boot profile.
const (
	MaxProfileSize  = 4 << 20 // bytes
	MaxProfileReads = 1 << 17 // lines
	maxProfileEnd   = 1 << 56 // bytes, of offset and length together
)

const profileMagic = "vmcast-profile 1"

// ErrProfile is wrapped by every error of [ParseProfile] and [AppendProfile].
var ErrProfile = errors.New("bad boot profile")

// ProfileRead is one read that a boot made.
type ProfileRead struct {
	Image string // plain name
	Off   int64  // bytes
	Len   int64  // bytes, at least 1
}

// ParseProfile reads a boot profile. Whether the images are there and as long
// as that is for the caller to see: a read beyond the end of an image, or of an
// image that is not there, means nothing. The error wraps [ErrProfile].
func ParseProfile(b []byte) ([]ProfileRead, error) {
	bad := func(line int, format string, args ...any) ([]ProfileRead, error) {
		return nil, fmt.Errorf("%w, line %d: %s", ErrProfile, line, fmt.Sprintf(format, args...))
	}
	if len(b) > MaxProfileSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrProfile, MaxProfileSize)
	}
	head, rest, _ := bytes.Cut(b, []byte("\n"))
	if s := strings.TrimSuffix(string(head), "\r"); s != profileMagic {
		if version, ok := strings.CutPrefix(s, "vmcast-profile "); ok {
			return bad(1, "version %.20q is not supported", version)
		}
		return bad(1, "it does not begin with %q", profileMagic)
	}
	var reads []ProfileRead
	line := 1
	for len(rest) > 0 {
		line++
		var row []byte
		var ended bool
		if row, rest, ended = bytes.Cut(rest, []byte("\n")); !ended {
			return bad(line, "it ends too early")
		}
		if len(reads) == MaxProfileReads {
			return bad(line, "more than %d reads", MaxProfileReads)
		}
		r, err := parseProfileRead(strings.TrimSuffix(string(row), "\r"))
		if err != nil {
			return bad(line, "%v", err)
		}
		reads = append(reads, r)
	}
	return reads, nil
}

func parseProfileRead(s string) (ProfileRead, error) {
	// From the right, since a name may hold blanks.
	j := strings.LastIndexByte(s, ' ')
	i := strings.LastIndexByte(s[:max(j, 0)], ' ')
	if i < 0 {
		return ProfileRead{}, fmt.Errorf("%.60q is not image, offset and length", s)
	}
	off, err := parseCount(s[i+1 : j])
	if err != nil {
		return ProfileRead{}, err
	}
	n, err := parseCount(s[j+1:])
	if err != nil {
		return ProfileRead{}, err
	}
	r := ProfileRead{Image: s[:i], Off: off, Len: n}
	return r, r.check()
}

func (r ProfileRead) check() error {
	if err := checkShortest(r.Image); err != nil {
		return err
	}
	if r.Off < 0 || r.Len < 1 || r.Off > maxProfileEnd || r.Len > maxProfileEnd-r.Off {
		return fmt.Errorf("%d bytes at %d are out of range", r.Len, r.Off)
	}
	return nil
}

// AppendRead adds a read, to the last one if that ends where it begins.
func AppendRead(reads []ProfileRead, r ProfileRead) []ProfileRead {
	if n := len(reads) - 1; n >= 0 && reads[n].Off+reads[n].Len == r.Off && reads[n].Image == r.Image {
		reads[n].Len += r.Len
		return reads
	}
	return append(reads, r)
}

// AppendProfile appends a boot profile of the reads, in their order.
func AppendProfile(dst []byte, reads []ProfileRead) ([]byte, error) {
	if len(reads) > MaxProfileReads {
		return nil, fmt.Errorf("%w: more than %d reads", ErrProfile, MaxProfileReads)
	}
	from := len(dst)
	dst = append(dst, profileMagic+"\n"...)
	for _, r := range reads {
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("%w: %v", ErrProfile, err)
		}
		dst = append(append(dst, r.Image...), ' ')
		dst = append(strconv.AppendInt(dst, r.Off, 10), ' ')
		dst = append(strconv.AppendInt(dst, r.Len, 10), '\n')
	}
	if len(dst)-from > MaxProfileSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrProfile, MaxProfileSize)
	}
	return dst, nil
}
