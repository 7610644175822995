package xvm

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// tarOldSparse is a header of type S.
func tarOldSparse(name string, stored, real int64, more bool, regions ...int64) (flag byte, n string, size int64, fields tarField) {
	return 'S', name, stored, func(b []byte) {
		tarGNUMagic(b)
		for i, v := range regions {
			copy(b[386+12*i:], tarOctal(v))
		}
		if more {
			b[482] = 1
		}
		copy(b[483:], tarOctal(real))
	}
}

func TestT9SparseMaps(t *testing.T) {
	t.Parallel()
	const k = 512
	for _, c := range []struct {
		name         string
		stored, real int64
		regions      []int64 // offset, length
		reason       string  // "" if it is good
	}{
		{"good", 2 * k, 10 * k, []int64{0, k, 4 * k, k, 10 * k, 0}, ""},
		{"adjacent", 2 * k, 2 * k, []int64{0, k, k, k}, ""},
		{"hole only", 0, 10 * k, []int64{10 * k, 0}, ""},
		{"broken last", k + 5, 4*k + 5, []int64{0, k, 4 * k, 5}, ""},
		{"overlap", 2 * k, 10 * k, []int64{0, k, k - 1, k, 10 * k, 0}, "order"},
		{"unsorted", 2 * k, 10 * k, []int64{4 * k, k, 0, k, 10 * k, 0}, "order"},
		{"beyond", 2 * k, 10 * k, []int64{0, k, 9*k + 1, k}, "beyond"},
		{"offset beyond", k, 10 * k, []int64{0, k, 11 * k, 0}, "beyond"},
		{"more than stored", k, 10 * k, []int64{0, k, 4 * k, k, 10 * k, 0}, "more data"},
		{"less than stored", 3 * k, 10 * k, []int64{0, k, 4 * k, k, 10 * k, 0}, "less data"},
		{"broken inner", k + 5, 10 * k, []int64{0, 5, 4 * k, k, 10 * k, 0}, "broken blocks"},
		{"short", k, 10 * k, []int64{0, k}, "ends before"},
	} {
		t.Run(c.name, func(t *testing.T) {
			want := tarWant{members: "s z"}
			if c.reason != "" {
				want = tarWant{kind: ErrTarRefused, reason: c.reason}
			}
			content := strings.Repeat("x", int(c.stored))
			var list []string
			pax00 := []string{"GNU.sparse.size", fmt.Sprint(c.real), "GNU.sparse.numblocks", fmt.Sprint(len(c.regions) / 2)}
			pax01 := append([]string{}, pax00...)
			for i, v := range c.regions {
				list = append(list, fmt.Sprint(v))
				pax00 = append(pax00, []string{"GNU.sparse.offset", "GNU.sparse.numbytes"}[i%2], fmt.Sprint(v))
			}
			pax01 = append(pax01, "GNU.sparse.map", strings.Join(list, ","), "GNU.sparse.name", "s")
			body := fmt.Sprintf("%d\n%s\n", len(list)/2, strings.Join(list, "\n"))
			body += strings.Repeat("\x00", -len(body)&511)
			flag, name, size, fields := tarOldSparse("s", c.stored, c.real, false, c.regions...)
			for form, m := range map[string]*tarMaker{
				"oldgnu": new(tarMaker).header(flag, name, size, fields).body(content),
				"0.0":    new(tarMaker).pax('x', pax00...).file("s", content),
				"0.1":    new(tarMaker).pax('x', pax01...).file("GNUSparseFile.1/s", content),
				"1.0": new(tarMaker).pax('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "s",
					"GNU.sparse.realsize", fmt.Sprint(c.real)).file("GNUSparseFile.1/s", body+content),
			} {
				t.Log(form)
				x := tarExpect(t, m.file("z", "end").end(), Limits{}, want)
				if x == nil {
					continue
				}
				if s := x.Members[0]; s.Size != c.real || s.Stored != c.stored || s.Segments == nil {
					t.Errorf("%s: %+v", form, s)
				}
				views := tarViewsIfAny(t, m.Bytes())
				for program, v := range views {
					if !v.ok {
						t.Errorf("%s does not read form %s", program, form)
					}
				}
				tarCompare(t, m.Bytes(), views)
			}
		})
	}
}

func TestT9SparseForms(t *testing.T) {
	t.Parallel()
	refused := tarWant{kind: ErrTarRefused}
	for _, records := range [][]string{
		{"GNU.sparse.major", "1", "GNU.sparse.minor", "1", "GNU.sparse.realsize", "5"},
		{"GNU.sparse.major", "1", "GNU.sparse.realsize", "5"},
		{"GNU.sparse.size", "5"}, {"GNU.sparse.name", "b"},
		{"GNU.sparse.map", "0,1", "GNU.sparse.size", "1"},                                                           // no count
		{"GNU.sparse.map", "0,1", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "2"},                              // wrong count
		{"GNU.sparse.map", "0", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"},                                // odd
		{"GNU.sparse.map", "0,-1", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"},                             // negative
		{"GNU.sparse.map", "0,", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"},                               // empty number
		{"GNU.sparse.map", "0,1", "GNU.sparse.numblocks", "1"},                                                      // no size
		{"GNU.sparse.offset", "0", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"},                             // half a pair
		{"GNU.sparse.offset", "0", "GNU.sparse.offset", "0", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"},   // no turns
		{"GNU.sparse.numbytes", "0", "GNU.sparse.offset", "0", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1"}, // wrong turn
		{"GNU.sparse.map", "0,1", "GNU.sparse.size", "1", "GNU.sparse.numblocks", "1", "GNU.sparse.realsize", "1"},  // mixed
		{"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1", "GNU.sparse.map", "0,1"},     // mixed
		{"GNU.sparse.major", "1", "GNU.sparse.minor", "0"},                                                          // no size
		{"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "1"},                              // no map in the body
	} {
		tarExpect(t, new(tarMaker).pax('x', records...).file("a", "x").end(), Limits{}, refused)
	}
	head := []string{"GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "512"}
	for _, body := range []string{"", "\n", "1\n", "1\n0\n", "1\n0\n-1\n", "a\n", "00000000000000000000000000000\n", "1\n0\n 512\n", strings.Repeat("1", 512), "2\n0\n512\n"} {
		body += strings.Repeat("\x00", 512-len(body))
		tarExpect(t, new(tarMaker).pax('x', head...).file("a", body+strings.Repeat("x", 512)).end(), Limits{}, refused)
	}
	map11 := "1\n0\n512\n" + strings.Repeat("\x00", 504) + strings.Repeat("x", 512)
	tarExpect(t, new(tarMaker).pax('x', head...).file("a", map11).end(), Limits{}, tarWant{members: "a"})
	tarExpect(t, new(tarMaker).pax('x', head...).file("a", map11, tarGNUMagic).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "kind"})
	count := "99999999\n" + strings.Repeat("\x00", 503)
	tarExpect(t, new(tarMaker).pax('x', head...).file("a", count).end(), Limits{}, tarWant{kind: ErrTarLimit, reason: "regions"})
	tarExpect(t, new(tarMaker).pax('x', head...).header('5', "a", 0).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "not a file"})

	flag, name, size, fields := tarOldSparse("s", 0, 0, true)
	tarExpect(t, new(tarMaker).header(flag, name, size, fields).body("x").end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "behind its end"})
	tarExpect(t, new(tarMaker).header('S', "s", 0).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "kind"})
	flag, _, size, fields = tarOldSparse("s", 0, 0, false)
	tarExpect(t, new(tarMaker).header(flag, "s/", size, fields).end(), Limits{}, tarWant{kind: ErrTarRefused, reason: "not a file"})
	// A chain of blocks, each of which says that one more follows: it ends with the archive, or at the limit.
	flag, name, size, fields = tarOldSparse("s", 0, 0, true, 0, 0, 0, 0, 0, 0, 0, 0)
	chain := new(tarMaker).header(flag, name, size, fields)
	block := []byte(strings.Repeat(tarOctal(0), 42) + strings.Repeat("\x01", 8))
	for range 100 {
		chain.Write(block)
	}
	tarExpect(t, chain.Bytes(), Limits{}, tarWant{hidden: 1, truncated: `within member "s"`})
	tarExpect(t, chain.Bytes(), Limits{Regions: 1000}, tarWant{kind: ErrTarLimit, reason: "regions"})
	tarExpect(t, chain.Bytes(), Limits{HeaderBytes: 4096}, tarWant{kind: ErrTarLimit, reason: "bytes of headers"})
	for _, records := range [][]string{
		{"GNU.sparse.map", strings.Repeat("0,0,", 2000) + "0,0", "GNU.sparse.size", "0", "GNU.sparse.numblocks", "2001"},
		append(tarRepeat(2001, "GNU.sparse.offset", "0", "GNU.sparse.numbytes", "0"), "GNU.sparse.size", "0", "GNU.sparse.numblocks", "2001"),
	} {
		tarExpect(t, new(tarMaker).pax('x', records...).file("a", "").end(), Limits{Regions: 1000}, tarWant{kind: ErrTarLimit, reason: "regions"})
		tarExpect(t, new(tarMaker).pax('x', records...).file("a", "").end(), Limits{}, tarWant{members: "a"})
	}
}

func tarRepeat(n int, s ...string) (out []string) {
	for range n {
		out = append(out, s...)
	}
	return out
}

func TestT10ApparentSize(t *testing.T) {
	t.Parallel()
	huge := fmt.Sprint(int64(math.MaxInt64))
	records := []string{"GNU.sparse.size", huge, "GNU.sparse.numblocks", "1", "GNU.sparse.map", huge + ",0"}
	tarExpect(t, new(tarMaker).pax('x', records...).file("a", "").end(), Limits{}, tarWant{kind: ErrTarLimit, reason: "too large"})
	half := fmt.Sprint(int64(40) << 40)
	records = []string{"GNU.sparse.size", half, "GNU.sparse.numblocks", "1", "GNU.sparse.map", half + ",0"}
	tarExpect(t, new(tarMaker).pax('x', records...).file("a", "").end(), Limits{}, tarWant{members: "a"})
	tarExpect(t, new(tarMaker).pax('x', records...).file("a", "").pax('x', records...).file("b", "").end(), Limits{}, tarWant{kind: ErrTarLimit, reason: "with those before it"})
}
