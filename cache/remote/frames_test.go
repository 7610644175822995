package remote

import (
	"context"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
)

// TestH17Frames has a server send HTTP/2 frames that no client expects. A request to it
// ends with its context, and other servers are asked as before.
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
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			go func() {
				_, err := c.Open(ctx, bad.URL()+"/f", "")
				ended <- err
				_, err = c.Resume(bad.URL()+"/f", "", Identity{ETag: `"one"`, Size: testSize, Ranged: true}).Fetch(ctx, 0, 131072, 0)
				ended <- err
			}()
			testkit.Eventually(t, "a request arrives", time.Minute, func() bool { return bad.Requests() > 0 })
			defer time.AfterFunc(400*time.Millisecond, cancel).Stop()
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
			mustFetch(t, object, want, 1000, 100_000)
		})
	}
}
