package e2e

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
)

// signer is an origin whose feed names a URL that is signed anew at each look,
// and good only as long as the last one that was given out.
type signer struct {
	http.Handler
	sign    atomic.Int64 // what is accepted
	refused atomic.Int64
	passed  atomic.Int64
}

func (s *signer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == appliance.FeedPath {
		w.Header().Set("Content-Type", "application/rss+xml")
		fmt.Fprintf(w, "%s", rss(item{"one", fmt.Sprintf("one.xvm?X-Amz-Expires=900&amp;X-Amz-Signature=%d", s.sign.Load())}))
		return
	}
	if r.URL.Query().Get("X-Amz-Signature") != fmt.Sprint(s.sign.Load()) {
		s.refused.Add(1)
		http.Error(w, "Request has expired", http.StatusForbidden)
		return
	}
	s.passed.Add(1)
	s.Handler.ServeHTTP(w, r)
}

// TestSignedURL: the URL of a package is signed anew each time the feed is
// fetched, and expires. It is the same archive all the same: a guest reads on
// without an error, nothing is fetched twice, and a remount finds it in the
// cache; another archive at that place is a new generation.
func TestSignedURL(t *testing.T) {
	t.Parallel()
	disk, other := noise(changeSize, 45), noise(changeSize, 46)
	w := bareWorld(t)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	at := time.Now().Add(-48 * time.Hour)
	w.put("/one.xvm", w.app.Packages["/one.xvm"], at, `"1"`)
	s := &signer{Handler: w.origin}
	w.behind(nil, s)
	w.mount("complete=off", "refresh=1h", "soft", "timeo=1m")
	f := w.open("one", "disk.img")
	w.wantAt(f, disk, 0)

	s.sign.Add(1) // it expires, and nobody has looked at the feed yet
	for off := int64(0); off < changeSize/2; off += 256 << 10 {
		w.wantAt(f, disk, off)
	}
	if n := s.refused.Load(); n == 0 {
		t.Error("the test shows nothing: no URL had expired")
	}
	s.sign.Add(1) // and again, found out by a look at the feed
	passed := s.passed.Load()
	w.refresh()
	testkit.Eventually(t, "the fresh URL is asked", time.Minute, func() bool { return s.passed.Load() > passed })
	refused := s.refused.Load()
	for off := int64(changeSize / 2); off < changeSize; off += 256 << 10 {
		w.wantAt(f, disk, off)
	}
	if n := s.refused.Load(); n != refused {
		t.Errorf("the expired URL was asked %d times more", n-refused)
	}
	if g := w.release("one").Generation; g != 1 {
		t.Errorf("generation %d: the archive is the same", g)
	}
	if sent := w.packageStats().BytesSent; sent > changeSize*11/10 {
		t.Errorf("%d bytes were fetched of an image of %d", sent, changeSize)
	}
	w.wantFile(disk, "one", "disk.img")
	f.Close()
	w.umount()

	s.sign.Add(1)
	w.origin.ResetStats()
	w.mount("complete=off", "refresh=1h")
	w.wantFile(disk, "one", "disk.img")
	if sent := w.packageStats().BytesSent; sent > 4096 {
		t.Errorf("%d bytes were fetched of what is in the cache", sent)
	}

	f = w.open("one", "disk.img")
	w.put("/one.xvm", packListed(t, member{"disk.img", other}), at.Add(time.Hour), `"2"`)
	s.sign.Add(1)
	w.refresh()
	w.newGeneration(other, "one", "disk.img")
	w.wantGeneration(f, disk, other, "old EIO")
	if g := w.release("one").Generation; g != 2 {
		t.Errorf("generation %d", g)
	}
}
