package remote

import (
	"errors"
	"strconv"
	"strings"
)

// unknown is a size that nobody has told.
const unknown = -1

// A contentRange is the value of a Content-Range header (RFC 9110, section 14.4). For an
// unsatisfied range ("bytes */N") first and last are unknown; total is unknown for "*".
type contentRange struct{ first, last, total int64 }

var errContentRange = errors.New("malformed Content-Range")

// parseContentRange accepts what the grammar does, in bytes, and nothing that contradicts
// itself.
func parseContentRange(s string) (contentRange, error) {
	unit, rest, ok := strings.Cut(s, " ")
	if !ok || !strings.EqualFold(unit, "bytes") {
		return contentRange{}, errContentRange
	}
	extent, size, ok := strings.Cut(strings.Trim(rest, " \t"), "/")
	if !ok {
		return contentRange{}, errContentRange
	}
	r := contentRange{unknown, unknown, unknown}
	if size != "*" {
		if r.total, ok = parseDigits(size); !ok {
			return contentRange{}, errContentRange
		}
	}
	if extent == "*" {
		if r.total == unknown {
			return contentRange{}, errContentRange
		}
		return r, nil
	}
	first, last, ok := strings.Cut(extent, "-")
	if !ok {
		return contentRange{}, errContentRange
	}
	var ok1, ok2 bool
	r.first, ok1 = parseDigits(first)
	r.last, ok2 = parseDigits(last)
	if !ok1 || !ok2 || r.last < r.first || r.total != unknown && r.last >= r.total {
		return contentRange{}, errContentRange
	}
	return r, nil
}

// parseDigits reads 1*DIGIT up to 2^63-1; no signs, no spaces.
func parseDigits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
