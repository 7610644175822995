package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/origin"
	"vmcastfs/cache/testkit"
	"vmcastfs/cmd/internal/appliance"
	"vmcastfs/fs"
)

// sentTwice counts the bytes of an archive that crossed the network more than
// once, beyond what the walk over its headers read.
func (w *world) sentTwice(path string) (twice int64) {
	seen := make([]uint8, len(w.app.Packages[path])/512+1)
	for i, r := range w.origin.Log() {
		if r.Path != path || r.Status != 206 || i == 0 {
			continue
		}
		for b := r.Off / 512; b < (r.Off+r.Sent)/512; b++ {
			if seen[b]++; seen[b] > 1 {
				twice += 512
			}
		}
	}
	return twice
}

// TestOneFetchPerBlock reads an image by many readers, many processes and two
// mounts with one cache at once.
func TestOneFetchPerBlock(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	disk := noise(6<<20, 1)
	w.publish("one", packListed(t, member{"disk.img", disk}))
	second := *w
	second.dir = t.TempDir()
	w.mount()
	second.mount()
	w.origin.SetLatency(3 * time.Millisecond)

	var readers sync.WaitGroup
	for i := range 12 {
		path := w.path("one", "disk.img")
		if i%3 == 0 {
			path = second.path("one", "disk.img")
		}
		readers.Go(func() {
			f, err := os.Open(path)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			rng := rand.New(rand.NewPCG(1, uint64(i/2)))
			for range 60 {
				p := make([]byte, 1+rng.IntN(150_000))
				off := rng.Int64N(int64(len(disk) - len(p)))
				if _, err := f.ReadAt(p, off); err != nil || !bytes.Equal(p, disk[off:off+int64(len(p))]) {
					t.Errorf("read of %d at %d: %v", len(p), off, err)
					return
				}
			}
		})
	}
	want := hexSHA256(disk)
	for i := range 4 {
		path := w.path("one", "disk.img")
		if i == 0 {
			path = second.path("one", "disk.img")
		}
		readers.Go(func() {
			if out, err := exec.Command("sha256sum", path).Output(); err != nil || !strings.HasPrefix(string(out), want) {
				t.Errorf("sha256sum: %v, %s", err, out)
			}
		})
	}
	readers.Wait()
	st := w.packageStats()
	t.Logf("%d requests, %d bytes, %d of them twice", st.Requests, st.BytesSent, w.sentTwice("/one.xvm"))
	// The walks of two mounts read the same headers and ends. On a busy machine two mounts ask
	// for some blocks at once; if they shared nothing all would come twice.
	if twice := w.sentTwice("/one.xvm"); twice > int64(len(disk))*4/10 {
		t.Errorf("%d bytes were fetched more than once", twice)
	}
	second.umount()
}

// TestFaultyServer: whatever the server does, a reader gets the right bytes or
// an error.
func TestFaultyServer(t *testing.T) {
	disk := noise(1<<20, 1)
	for kind, c := range map[origin.Kind]struct {
		fault origin.Fault
		fails bool // there is no way to get right bytes: an error is
	}{
		origin.Truncate:      {fault: origin.Fault{After: 70_000, Times: 3}},
		origin.Reset:         {fault: origin.Fault{After: 70_000, Times: 3}},
		origin.Drop:          {fault: origin.Fault{Times: 2}},
		origin.Delay:         {fault: origin.Fault{Delay: 300 * time.Millisecond}},
		origin.IgnoreRange:   {fault: origin.Fault{Times: 1}},
		origin.RangeOn200:    {fault: origin.Fault{Times: 1}},
		origin.WrongRange:    {fault: origin.Fault{Times: 1}},
		origin.ShortRange:    {fault: origin.Fault{Times: 2}},
		origin.LongRange:     {fault: origin.Fault{Times: 1}},
		origin.WrongTotal:    {fault: origin.Fault{Times: 1}},
		origin.StarTotal:     {fault: origin.Fault{}},
		origin.NoRangeHeader: {fault: origin.Fault{Times: 1}},
		origin.Multipart:     {fault: origin.Fault{Times: 1}},
		origin.GzipEncoding:  {fault: origin.Fault{Times: 1}},
		origin.ChangeETag:    {fault: origin.Fault{}, fails: true},
		origin.Status:        {fault: origin.Fault{Status: 503, RetryAfter: "1", Times: 1}},
		"500":                {fault: origin.Fault{Kind: origin.Status, Status: 500, Times: 2}},
		"429":                {fault: origin.Fault{Kind: origin.Status, Status: 429, Times: 2}},
		"403 for ever":       {fault: origin.Fault{Kind: origin.Status, Status: 403}, fails: true},
		"404 for ever":       {fault: origin.Fault{Kind: origin.Status, Status: 404}, fails: true},
		"503 for ever":       {fault: origin.Fault{Kind: origin.Status, Status: 503}, fails: true},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			w.publish("one", packListed(t, member{"xvm.xml", noise(150_000, 9)}, member{"disk.img", disk}))
			timeo := "timeo=30s" // what helps shall not be a matter of time
			if c.fails {
				timeo = "timeo=2s"
			}
			w.mount("soft", timeo, "complete=off")
			w.statSoon("one", "disk.img") // indexed while all is well
			fault := c.fault
			fault.Path = "/one.xvm"
			if fault.Kind == "" {
				fault.Kind = kind
			}
			w.origin.Inject(fault)
			f, err := os.Open(w.path("one", "disk.img"))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			p := make([]byte, len(disk))
			// A refusal may be final for the read that meets it; none may
			// bring wrong bytes, and once the server is well all is.
			n, err := f.ReadAt(p, 0)
			if !bytes.Equal(p[:n], disk[:n]) {
				t.Fatal("wrong bytes")
			}
			if c.fails != (err != nil) {
				t.Errorf("the read gives %v", err)
			}
			if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ETIMEDOUT) && !errors.Is(err, syscall.ESTALE) && !errors.Is(err, syscall.EACCES) {
				t.Errorf("the read fails with %v", err)
			}
			if kind == origin.ChangeETag {
				if got := w.release("one").Generation; got < 2 {
					t.Errorf("generation is %d", got)
				}
			} else if c.fails && w.file("one", "disk.img").LastError == "" {
				t.Error("the status does not say why")
			}
		})
	}
}

// TestReplacedArchive replaces an archive under an open file.
func TestReplacedArchive(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	w.opts = []string{"complete=off"}
	old, new := noise(4<<20, 1), noise(4<<20, 2)
	w.publish("one", packListed(t, member{"disk.img", old}))
	w.mount()
	path := w.path("one", "disk.img")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p := make([]byte, 64<<10)
	if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, old[:len(p)]) {
		t.Fatal(err)
	}
	before, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	archive := packListed(t, member{"disk.img", new})
	w.app.Packages["/one.xvm"] = archive
	w.origin.PutBytes("/one.xvm", archive)

	for off := 0; off < len(old); off += len(p) {
		n, err := f.ReadAt(p, int64(off))
		if !bytes.Equal(p[:n], old[off:off+n]) {
			t.Fatalf("at %d the open file has other bytes than before", off)
		}
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, syscall.ESTALE) {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, "the new generation is there", time.Minute, func() bool {
		info, err := os.Stat(path)
		return err == nil && !os.SameFile(info, before)
	})
	w.wantFile(new, "one", "disk.img")
	w.wantFile(sha1sums(member{"disk.img", new}), "one", "manifest.txt")
	if _, err := f.ReadAt(p, 0); err != nil || !bytes.Equal(p, old[:len(p)]) {
		t.Errorf("what the open file had before is gone: %v", err)
	}
}

// TestNginx has nginx as the origin.
func TestNginx(t *testing.T) {
	t.Parallel()
	nginx := testkit.Need(t, "nginx")
	root := t.TempDir()
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	disk := noise(3<<20, 1)
	write := func(name, content string) string {
		path := filepath.Join(root, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("vmcast.xml", string(rss(item{"one", "one.xvm"})))
	write("one.xvm", string(packListed(t, member{"disk.img", disk})))
	conf := write("nginx.conf", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {} http { access_log %[1]s/access.log combined; gzip on; gzip_types text/xml; gzip_min_length 1; types { text/xml xml; }
client_body_temp_path %[1]s/t1; proxy_temp_path %[1]s/t2; fastcgi_temp_path %[1]s/t3; uwsgi_temp_path %[1]s/t4; scgi_temp_path %[1]s/t5;
server { listen unix:%[1]s/probe; listen 127.0.0.1:PORT; root %[1]s; } }`, root))
	url := startServer(t, conf, func() *exec.Cmd { return exec.Command(nginx, "-p", root, "-c", conf) })

	w := bareWorld(t)
	w.feed = url + "/vmcast.xml"
	w.mount()
	path := w.path("latest", "disk.img")
	hold(t, path)
	w.wantFile(disk, "latest", "disk.img")
	testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(path, "state") == "verified" })
	if got := w.release("one").Transport; got != "ranges" {
		t.Errorf("transport is %q", got)
	}
	log := string(readAll(t, filepath.Join(root, "access.log")))
	if strings.Contains(log, `/one.xvm HTTP/1.1" 200`) {
		t.Errorf("the whole archive was asked for:\n%s", log)
	}
}

// startServer runs a server on a free port; PORT in the file conf is replaced.
func startServer(t *testing.T, conf string, command func() *exec.Cmd) string {
	t.Helper()
	text := string(readAll(t, conf))
	for range 5 {
		port := freePort(t)
		if err := os.WriteFile(conf, []byte(strings.ReplaceAll(text, "PORT", port)), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := command()
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		if listening(port, ended) {
			t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
			return "http://127.0.0.1:" + port
		}
		<-ended
		t.Log(stderr.String())
	}
	t.Fatal("the server does not start")
	return ""
}

// TestServerWithoutRanges has python's http.server as the origin, which
// answers every Range with the whole.
func TestServerWithoutRanges(t *testing.T) {
	t.Parallel()
	python := testkit.Need(t, "python3")
	root := t.TempDir()
	first, second := noise(2<<20, 1), noise(1<<20, 2)
	for name, content := range map[string][]byte{
		"vmcast.xml": rss(item{"one", "one.xvm"}),
		"one.xvm":    packListed(t, member{"first.img", first}, member{"second.img", second}),
	} {
		if err := os.WriteFile(filepath.Join(root, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	port := freePort(t)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(python, "-u", "-m", "http.server", "--bind", "127.0.0.1", "--directory", root, port)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	if !listening(port, ended) {
		t.Fatal("http.server does not start")
	}

	w := bareWorld(t)
	w.feed = "http://127.0.0.1:" + port + appliance.FeedPath
	w.mount()
	f, err := os.Open(w.path("one", "second.img")) // the one further behind first
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100_000)
	if _, err := f.ReadAt(p, 500_000); err != nil || !bytes.Equal(p, second[500_000:600_000]) {
		t.Errorf("a read in the middle of the second image: %v", err)
	}
	w.wantFile(first, "one", "first.img")
	w.wantFile(second, "one", "second.img")
	if got := w.release("one").Transport; got != "whole" {
		t.Errorf("transport is %q", got)
	}
	testkit.Eventually(t, "verified", time.Minute, func() bool { return attr(f.Name(), "state") == "verified" })
	f.Close()
	gets := func() int { return strings.Count(string(readAll(t, log.Name())), "\"GET /one.xvm HTTP/1.1\" 200") }
	if n := gets(); n > 2 {
		t.Errorf("the archive was asked for %d times", n)
	}
	before := gets()
	w.umount()
	w.mount()
	w.wantFile(first, "one", "first.img")
	w.wantFile(second, "one", "second.img")
	if n := gets() - before; n != 0 {
		t.Errorf("after a remount the archive was asked for %d times", n)
	}
	_ = fs.UnmountDir(w.dir, true)
}
