package remote

import (
	"context"
	"testing"
	"time"

	"vmcastfs/cache/origin"
)

// TestH17Frames has a server send HTTP/2 frames that no client expects. A request to it
// ends by its own deadline, and other servers are asked as before.
func TestH17Frames(t *testing.T) {
	for name, attack := range origin.Attacks() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			good, want := origin.New(), content(testSize)
			good.PutBytes("/f", want)
			if err := good.StartTLS(); err != nil {
				t.Fatal(err)
			}
			defer good.Close()
			bad, err := good.NewFrames(attack)
			if err != nil {
				t.Fatal(err)
			}
			defer bad.Close()
			c := client(t, func(o *Options) {
				o.Hard, o.CACert, o.StallTimeout = true, writeFile(t, "ca.pem", string(good.CertPEM())), 200*time.Millisecond
			})
			object := open(t, c, good.URL()+"/f")
			ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
			defer cancel()
			ended := make(chan error)
			go func() {
				_, err := c.Open(ctx, bad.URL()+"/f", "")
				ended <- err
				_, err = c.Resume(bad.URL()+"/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true}).Fetch(ctx, 0, 131072, 0)
				ended <- err
			}()
			for range 2 {
				select {
				case err := <-ended:
					if err == nil {
						t.Error("frames were taken for an answer")
					}
				case <-time.After(time.Minute):
					t.Fatal("the request does not end")
				}
			}
			if bad.Requests() == 0 {
				t.Error("no request has arrived")
			}
			mustFetch(t, object, want, 1000, 100_000)
		})
	}
}
