package origin

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func validators(header http.Header, f *file, fault Fault, change int64) {
	modTime, etag := f.modTime, f.etag
	switch fault.Kind {
	case ChangeETag:
		if etag = fault.Value; etag == "" {
			etag = fmt.Sprintf(`"change-%d"`, change)
		}
	case ChangeModTime:
		modTime = modTime.Add(24 * time.Hour)
	case NoValidators:
		return
	}
	if etag != "" {
		header.Set("ETag", etag)
	}
	if !modTime.IsZero() {
		header.Set("Last-Modified", modTime.UTC().Format(http.TimeFormat))
	}
}

// notModified evaluates If-None-Match and If-Modified-Since (RFC 9110, section 13.2.2).
func notModified(r *http.Request, header http.Header) bool {
	if inm := r.Header.Get("If-None-Match"); inm != "" {
		etag := header.Get("ETag")
		return etag != "" && strings.TrimPrefix(inm, "W/") == strings.TrimPrefix(etag, "W/")
	}
	since, err := http.ParseTime(r.Header.Get("If-Modified-Since"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(header.Get("Last-Modified"))
	return err == nil && !modified.After(since)
}

// rangeStands evaluates If-Range (RFC 9110, section 13.1.5).
func rangeStands(ifRange string, header http.Header) bool {
	if strings.HasPrefix(ifRange, `"`) {
		return ifRange == header.Get("ETag")
	}
	return ifRange == header.Get("Last-Modified")
}

// parseRange understands one range of the forms a-b, a- and -n.
func parseRange(value string, size int64) (off, n int64, err error) {
	spec, ok := strings.CutPrefix(value, "bytes=")
	first, last, ok2 := strings.Cut(spec, "-")
	if !ok || !ok2 || strings.Contains(spec, ",") {
		return 0, 0, errors.New("not one byte range")
	}
	if first == "" {
		n, err = strconv.ParseInt(last, 10, 64)
		if err != nil {
			return 0, 0, err
		}
		n = min(n, size)
		if n <= 0 {
			return 0, 0, errUnsatisfiable
		}
		return size - n, n, nil
	}
	if off, err = strconv.ParseInt(first, 10, 64); err != nil {
		return 0, 0, err
	}
	end := size - 1
	if last != "" {
		if end, err = strconv.ParseInt(last, 10, 64); err != nil {
			return 0, 0, err
		}
		end = min(end, size-1)
	}
	if off >= size {
		return 0, 0, errUnsatisfiable
	}
	if off < 0 || end < off {
		return 0, 0, errors.New("not a byte range")
	}
	return off, end - off + 1, nil
}
