package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// tarPax is what an extended header (type x) says of the member after it. Empty strings and negative numbers stand
// for what it does not say.
type tarPax struct {
	path, link string
	size       int64
	modTime    time.Time
	sparse     tarPaxSparse
}

// tarPaxSparse holds the GNU.sparse.* records as they are.
type tarPaxSparse struct {
	any      bool
	values   map[string]string // without the GNU.sparse. of the key; offset and numbytes excepted
	pairs    []tarRegion       // format 0.0: offset and numbytes records, in turn
	halfPair bool              // an offset without its numbytes
}

// tarPaxRecords calls each for the records of an extended header: "LEN KEY=VALUE\n", LEN counting all of it
// (POSIX.1-2017, pax, "pax Extended Header").
func tarPaxRecords(body []byte, each func(key, value string) error) error {
	for len(body) > 0 {
		sp := bytes.IndexByte(body, ' ')
		if sp < 1 || sp > 10 || body[0] == '0' {
			return errors.New("extended header has a record without a length")
		}
		n, err := strconv.ParseUint(string(body[:sp]), 10, 31)
		if err != nil || int(n) <= sp+1 || int(n) > len(body) || body[n-1] != '\n' {
			return errors.New("extended header has a record of a wrong length")
		}
		key, value, ok := bytes.Cut(body[sp+1:n-1], []byte("="))
		if !ok || len(key) == 0 || bytes.IndexByte(key, 0) >= 0 {
			return errors.New("extended header has a record without a key")
		}
		if err := each(string(key), string(value)); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// tarParsePax reads the body of an extended header of type x. maxRegions bounds a sparse map in it.
func tarParsePax(body []byte, maxRegions int) (*tarPax, error) {
	p := &tarPax{size: -1}
	seen := map[string]bool{}
	err := tarPaxRecords(body, func(key, value string) error {
		switch {
		case !tarPaxMatters(key):
			return nil
		case key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes":
			return p.sparse.pair(key, value, maxRegions)
		case seen[key]:
			return fmt.Errorf("extended header says %s twice", key)
		case value == "" || strings.IndexByte(value, 0) >= 0:
			return fmt.Errorf("extended header has a bad %s", key)
		}
		seen[key] = true
		switch key {
		case "path":
			p.path = value
		case "linkpath":
			p.link = value
		case "mtime":
			sec, _, _ := strings.Cut(value, ".")
			if n, err := strconv.ParseInt(sec, 10, 64); err == nil {
				p.modTime = tarTime(n)
			}
		case "size":
			n, err := tarDecimal(value)
			if err != nil {
				return fmt.Errorf("extended header has a bad size: %w", err)
			}
			p.size = n
		default:
			name, ok := strings.CutPrefix(key, "GNU.sparse.")
			if !ok {
				return fmt.Errorf("extended header has %s, which is read differently by different programs", key)
			}
			p.sparse.set(name, value)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// tarCheckGlobal refuses a global extended header (type g) that changes what later headers mean: GNU tar heeds it, Go
// and libarchive do not. Comments and the like are of no concern.
func tarCheckGlobal(body []byte) error {
	return tarPaxRecords(body, func(key, _ string) error {
		if tarPaxMatters(key) && key != "mtime" {
			return fmt.Errorf("global extended header has %s, which is read differently by different programs", key)
		}
		return nil
	})
}

// tarPaxMatters says whether a record can change the name, size or content of a member in any of the programs
// compared; every other record is skipped.
func tarPaxMatters(key string) bool {
	switch key {
	case "path", "linkpath", "size", "mtime",
		"SCHILY.realsize", "SCHILY.filetype", "SUN.holesdata", // other programs' sparse files
		"GNU.volume.filename", "GNU.volume.size", "GNU.volume.offset": // a member begun in another archive
		return true
	}
	return strings.HasPrefix(key, "GNU.sparse.")
}

func (s *tarPaxSparse) set(name, value string) {
	if s.values == nil {
		s.values = map[string]string{}
	}
	s.any, s.values[name] = true, value
}

func (s *tarPaxSparse) pair(key, value string, maxRegions int) error {
	n, err := tarDecimal(value)
	if err != nil {
		return fmt.Errorf("sparse map is malformed: %w", err)
	}
	if s.halfPair != (key == "GNU.sparse.numbytes") {
		return errors.New("sparse map is malformed: offsets and lengths do not alternate")
	}
	s.any, s.halfPair = true, !s.halfPair
	if !s.halfPair {
		s.pairs[len(s.pairs)-1].len = n
		return nil
	}
	if len(s.pairs) == maxRegions {
		return errTarRegions
	}
	s.pairs = append(s.pairs, tarRegion{off: n})
	return nil
}

// tarDecimal reads digits and nothing else.
func tarDecimal(s string) (int64, error) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, errTarNumber
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, errTarNumber
	}
	return n, nil
}
