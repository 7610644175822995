package remote

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vmcastfs/cache/source"
)

func TestStats(t *testing.T) {
	s, want := serve(t)
	s.SetLatency(3 * time.Millisecond)
	c := client(t)
	o := open(t, c, s.URL()+"/f")
	for u, n := range map[source.Urgency]int64{source.ReadAhead: 10, source.Background: 20} {
		r, err := o.Fetch(t.Context(), 0, n, u)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(r)
		r.Close()
		if !bytes.Equal(got, want[:n]) {
			t.Error("wrong bytes")
		}
	}
	st := c.Stats()[0]
	if st.Origin != s.URL() || st.Requests != 3 || st.Bytes.Demand != headSize || st.Bytes.ReadAhead != 10 || st.Bytes.Background != 20 || st.InFlight != 0 {
		t.Errorf("stats %+v", st)
	}
	if h := st.Latency; h.Total() != 3 || h.Nanos < int64(9*time.Millisecond) {
		t.Errorf("latency %+v", h)
	}
}

// TestLogOfAFlappingOrigin has an origin fail and answer in turns.
func TestLogOfAFlappingOrigin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := client(t, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		p := c.peer("http://host:80")
		for range 120 {
			p.failed(io.ErrUnexpectedEOF, false)
			time.Sleep(500 * time.Millisecond)
			p.succeeded()
			time.Sleep(500 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n < 2 || n > 4 {
			t.Errorf("%d lines in 2 minutes of turns:\n%s", n, log.String())
		}
		// What lasts is told, soon.
		log.Reset()
		for range 70 {
			p.failed(io.ErrUnexpectedEOF, false)
			time.Sleep(time.Second)
		}
		p.succeeded()
		if got := log.String(); strings.Count(got, "origin fails") != 1 || strings.Count(got, "answers again") != 1 {
			t.Errorf("of an outage the log says:\n%s", got)
		}
	})
}

func TestManyOriginsAreForgotten(t *testing.T) {
	c := client(t)
	for i := range maxOrigins + 50 {
		c.peer(fmt.Sprint("http://host", i, ":80"))
	}
	if n := len(c.Stats()); n != maxOrigins {
		t.Errorf("%d origins", n)
	}
}
