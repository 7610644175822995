package catalog

import (
	"fmt"
	"testing"
)

// The headers of many members of one size are asked for, several at a time;
// what is between them is not.
func TestManyMembers(t *testing.T) {
	t.Parallel()
	const members = 400
	for _, size := range []int{20 << 10, 64 << 10, 100 << 10} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			s := newSite(t)
			var files []file
			for i := range members {
				files = append(files, file{fmt.Sprintf("part%03d.img", i), noise(size, byte(i%7))})
			}
			s.release("one", "/one.xvm", tarOf(t, files...))
			h := s.open()
			if got := len(h.pkg("one").Files()); got < members {
				t.Errorf("%d files", got)
			}
			st := s.origin.Stats("/one.xvm")
			if st.Requests > members+50 || st.BytesSent > members*5<<10+1<<20 {
				t.Errorf("%d requests and %d bytes for %d members", st.Requests, st.BytesSent, members)
			}
			conns := make(map[int64]bool)
			for _, r := range s.origin.Log() {
				conns[r.Conn] = true
			}
			if len(conns) < 4 {
				t.Errorf("over %d connections", len(conns))
			}
		})
	}
}
