package remote

import (
	"fmt"
	"math"
	"testing"
)

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string]contentRange{
		"bytes 0-0/1":   {0, 0, 1},
		"bytes 5-9/10":  {5, 9, 10},
		"BYTES 0-1/2":   {0, 1, 2},
		"bytes  0-1/2 ": {0, 1, 2},
		"bytes 0-1/*":   {0, 1, unknown},
		"bytes */10":    {unknown, unknown, 10},
		"bytes */0":     {unknown, unknown, 0},
		"bytes 0-9223372036854775806/9223372036854775807": {0, math.MaxInt64 - 1, math.MaxInt64},
		"bytes 00-01/02": {0, 1, 2},
	} {
		if got, err := parseContentRange(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "bytes", "bytes ", "bytes=0-1/2", "items 0-1/2", "bytes 0-1", "bytes 0/2", "bytes -1/2", "bytes 0-/2",
		"bytes 1-0/2", "bytes 0-2/2", "bytes 0-1/", "bytes */*", "bytes +0-1/2", "bytes 0-+1/2", "bytes 0 - 1/2", "bytes 0x0-1/2",
		"bytes 0-1/2,3-4/5", "bytes 0-1/9223372036854775808", "bytes -1--1/2", "bytes 0-1/2/3", "bytes ٠-١/٢"} {
		if got, err := parseContentRange(s); err == nil {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/10", "bytes 0-1/*", "bytes */10", "bytes 1-0/2", "bytes 0-1/9223372036854775808", "", "bytes */*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		whole := r.first >= 0 && r.first <= r.last && (r.total == unknown || r.last < r.total)
		none := r.first == unknown && r.last == unknown && r.total >= 0
		if whole == none {
			t.Fatalf("%q gave %+v", s, r)
		}
		text := fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, r.total)
		if none {
			text = fmt.Sprintf("bytes */%d", r.total)
		} else if r.total == unknown {
			text = fmt.Sprintf("bytes %d-%d/*", r.first, r.last)
		}
		if again, err := parseContentRange(text); err != nil || again != r {
			t.Fatalf("%q became %+v, %v", text, again, err)
		}
	})
}
