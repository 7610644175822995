package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/fs"
)

// TestFramesFreezeNothing has one server of a mount answer with hostile HTTP/2 frames, and
// then with nothing. Cached blocks, other releases and the feed go on. Two SIGTERM end the
// daemon while readers wait, and umount ends it once they were killed.
func TestFramesFreezeNothing(t *testing.T) {
	t.Parallel()
	attacks := origin.Attacks()
	together(t, map[string]struct {
		attack string
		signal bool
	}{
		"overflow until SIGTERM":   {"stream window overflows", true},
		"overflow until umount":    {"stream window overflows", false},
		"overflow in a body":       {"stream window overflows, header", true},
		"silence":                  {"silence", false},
		"silence after the header": {"silence after the header", true},
	}, func(t *testing.T, c struct {
		attack string
		signal bool
	}) {
		w := bareWorld(t)
		disk := noise(4<<20, 17)
		w.publish("good", packListed(t, member{"disk.img", disk}))
		w.origin.Down()
		must(t, w.origin.StartTLS())
		bad, err := w.origin.NewFrames(attacks[c.attack])
		must(t, err)
		defer bad.Close()
		w.items = append(w.items, item{"bad", bad.URL() + "/bad.xvm"})
		w.publish("late", packListed(t, member{"disk.img", noise(4<<20, 18)}))
		w.move(w.origin.URL())
		w.origin.PutBytes("/vmcast.xml", rss(w.items...))
		ca := filepath.Join(t.TempDir(), "ca.pem")
		must(t, os.WriteFile(ca, w.origin.CertPEM(), 0o644))
		w.mount("complete=off", "hard", "cacert="+ca)
		f := w.open("good", "disk.img")
		w.wantAt(f, disk, 0)
		var readers []*exec.Cmd
		for range 4 {
			ls := exec.Command("ls", w.path("bad"))
			must(t, ls.Start())
			readers = append(readers, ls)
		}
		testkit.Eventually(t, "the hostile server is asked", time.Minute, func() bool { return bad.Requests() > 0 })
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			w.wantAt(f, disk, 0)
			for off := int64(1 << 20); off < 4<<20; off += 256 << 10 {
				w.wantAt(f, disk, off)
			}
			w.wantFile(noise(4<<20, 18), "late", "disk.img")
			w.refresh()
		}()
		select {
		case <-ended:
		case <-time.After(2 * time.Minute):
			t.Error("readers of another server wait")
		}
		pid := w.daemons()[0]
		f.Close()
		end := func() {
			for _, ls := range readers {
				_ = ls.Process.Kill()
				_ = ls.Wait()
			}
		}
		if c.signal {
			must(t, syscall.Kill(pid, syscall.SIGTERM))
			time.Sleep(100 * time.Millisecond) // two at once would be taken for one
			must(t, syscall.Kill(pid, syscall.SIGTERM))
			w.waitGone(pid)
			end()
			return
		}
		end()
		must(t, fs.UnmountDir(w.dir, false))
		w.waitGone(pid)
	})
}
