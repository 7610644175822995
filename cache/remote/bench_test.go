package remote

import (
	"io"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/source"
)

// What a fetch costs beside the network.
func BenchmarkFetch(b *testing.B) {
	for _, bm := range []struct {
		name string
		size int64
	}{{"64KiB", 64 << 10}, {"4MiB", 4 << 20}} {
		b.Run(bm.name, func(b *testing.B) {
			s := origin.New()
			s.Put("/f", anything{}, 1<<40, time.Unix(1e9, 0), `"x"`, "")
			if err := s.Start(); err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			c, err := NewClient(Options{Proxy: "none"})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			o, err := c.Open(b.Context(), s.URL()+"/f", "")
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 256<<10)
			b.SetBytes(bm.size)
			b.ReportAllocs()
			for off := int64(0); b.Loop(); off += bm.size {
				r, err := o.Fetch(b.Context(), off, bm.size, source.Demand)
				if err != nil {
					b.Fatal(err)
				}
				for err == nil {
					_, err = r.Read(buf)
				}
				r.Close()
				if err != io.EOF {
					b.Fatal(err)
				}
			}
		})
	}
}

// anything is a file of any size.
type anything struct{}

func (anything) ReadAt(p []byte, _ int64) (int, error) { return len(p), nil }
