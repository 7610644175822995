package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"vmcastfs/cache/testkit"
)

// The network policy is tested in a network namespace whose only device is
// loopback, with public and private addresses on it: to the program a server at
// 8.8.8.8 is a public one. Nothing leaves the machine.

const (
	publicAddress  = "8.8.8.8"
	publicAddress2 = "9.9.9.9"
	privateAddress = "10.1.2.3"
	metadata       = "169.254.169.254" // link-local: where clouds keep secrets
)

// TestH2H3H5H6PublicFeed has a public feed lead to addresses it has no business
// with: directly, by redirects on every hop, and by a name that points elsewhere
// when it is asked for the second time.
func TestH2H3H5H6PublicFeed(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root to make a network namespace")
	}
	testkit.Need(t, "ip")
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestInNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), "VMCASTFS_TEST_NAMESPACE=1", "VMCASTFS_TEST_BINARY="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}

// TestInNamespace is the part of TestH2H3H5H6PublicFeed inside of the namespace.
func TestInNamespace(t *testing.T) {
	if os.Getenv("VMCASTFS_TEST_NAMESPACE") == "" {
		return
	}
	dir := t.TempDir()
	resolv := filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	script := `mount --make-rprivate / && mount --bind "$0" /etc/resolv.conf && ip link set lo up`
	for _, address := range []string{publicAddress, publicAddress2, privateAddress, metadata} {
		script += " && ip addr add " + address + "/32 dev lo"
	}
	if out, err := exec.Command("sh", "-c", script, resolv).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names := serveNames(t)

	archive := pack(t, member{"disk.img", noise(300_000, 1)})
	secrets := pack(t, member{"disk.img", []byte("a secret of the inner network")})
	var mu sync.Mutex
	asked := map[string]int{} // by address and path
	var authorized []string
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		at := r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr).IP.String()
		mu.Lock()
		asked[at+r.URL.Path]++
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
			authorized = append(authorized, at+r.URL.Path)
		}
		mu.Unlock()
		if to, ok := strings.CutPrefix(r.URL.Path, "/to/"); ok {
			http.Redirect(rw, r, "http://"+to, http.StatusFound)
			return
		}
		content := archive
		if at != publicAddress && at != publicAddress2 {
			content = secrets
		}
		rw.Header().Set("Etag", fmt.Sprintf("%q", hexMD5(content)))
		http.ServeContent(rw, r, "", time.Time{}, bytes.NewReader(content))
	})
	rejected := map[string]string{
		"loopback": "http://127.0.0.1/x.xvm", "private": "http://" + privateAddress + "/x.xvm", "metadata": "http://" + metadata + "/x.xvm",
		"mapped": "http://[::ffff:127.0.0.1]/x.xvm", "six": "http://[::1]/x.xvm", "zero": "http://0.0.0.0/x.xvm",
		"name": "http://inside.example/x.xvm", "localhost": "http://localhost/x.xvm",
		"redirect": "http://" + publicAddress2 + "/to/127.0.0.1/x.xvm",
		"hops":     "http://" + publicAddress2 + "/to/" + publicAddress + "/to/" + privateAddress + "/x.xvm",
		"by-name":  "http://" + publicAddress2 + "/to/inside.example/x.xvm",
	}
	var items []hostileItem
	for title, to := range rejected {
		items = append(items, hostileItem{title: title, id: title, enclosures: enclosure(to)})
	}
	for title, to := range map[string]string{
		"good": "http://" + publicAddress + "/good.xvm", "other": "http://" + publicAddress2 + "/other.xvm",
		"hop": "http://" + publicAddress2 + "/to/" + publicAddress + "/hop.xvm", "rebinding": "http://rebinding.example/x.xvm",
	} {
		items = append(items, hostileItem{title: title, id: title, enclosures: enclosure(to)})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/vmcast.xml", func(rw http.ResponseWriter, r *http.Request) {
		switch at := r.Context().Value(http.LocalAddrContextKey).(net.Addr).(*net.TCPAddr).IP.String(); {
		case at != publicAddress && r.Header.Get("If-None-Match") != "":
			rw.WriteHeader(http.StatusNotModified) // as if it had that, too
		case at != publicAddress:
			rw.WriteHeader(http.StatusNotFound)
		default:
			rw.Header().Set("Etag", `"1"`)
			_, _ = rw.Write(hostileFeed(items...))
		}
	})
	mux.Handle("/", handler)
	for _, address := range []string{publicAddress, publicAddress2, privateAddress, metadata, "127.0.0.1", "[::1]"} {
		l, err := net.Listen("tcp", address+":80")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: mux}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close() })
	}

	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), cache: t.TempDir(), feed: "http://" + publicAddress + "/vmcast.xml"}
	clock := testkit.StartClock(t)
	w.clock = func() *testkit.Clock { return clock }
	w.mount("soft", "timeo=2s", "complete=off", "token_file="+token, "proxy=none")
	for title := range rejected {
		if p, err := os.ReadFile(w.path(title, "disk.img")); err == nil {
			t.Errorf("%s: %q", title, p)
		}
		if r := w.release(title); r.State != "rejected" || !strings.Contains(r.Error, "address, named by a feed at a public one") {
			t.Errorf("%s: %s, %q", title, r.State, r.Error)
		}
	}
	for _, title := range []string{"good", "other", "hop"} {
		if got := w.readSoon(title, "disk.img"); len(got) != 300_000 {
			t.Errorf("%s: %d bytes", title, len(got))
		}
	}
	// H3: the name is public while the package is indexed; then it moves inside.
	w.statSoon("rebinding", "disk.img")
	names.set("rebinding.example.", privateAddress)
	w.umount()
	w.mount("soft", "timeo=2s", "complete=off", "token_file="+token, "proxy=none")
	f, err := os.Open(w.path("rebinding", "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 4096)
	if _, err := f.ReadAt(p, 200_000); err == nil {
		t.Error("H3: a name that moved inside was followed")
	}
	f.Close()
	mu.Lock()
	for where, n := range asked {
		if !strings.HasPrefix(where, publicAddress) && !strings.HasPrefix(where, publicAddress2) {
			t.Errorf("%s was asked %d times", where, n)
		}
	}
	for _, where := range authorized { // H6
		if !strings.HasPrefix(where, publicAddress+"/") {
			t.Errorf("the token went to %s", where)
		}
	}
	if len(authorized) == 0 {
		t.Error("the token was never sent")
	}
	mu.Unlock()
	w.umount()

	// H3: the feed's own name moves inside, and with it, for all that the next
	// process can see, the feed that is remembered.
	feed := w.feed
	w.feed, w.cache = "http://feed.example/vmcast.xml", t.TempDir()
	w.mount("soft", "timeo=2s", "complete=off", "proxy=none")
	w.umount()
	names.set("feed.example.", "127.0.0.1")
	w.mount("soft", "timeo=2s", "complete=off", "proxy=none")
	for _, title := range []string{"private", "loopback", "localhost"} {
		if p, err := os.ReadFile(w.path(title, "disk.img")); err == nil {
			t.Errorf("%s, of a feed whose name moved inside: %q", title, p)
		}
	}
	w.umount()
	w.feed = feed

	// The operator may allow it.
	w.cache = t.TempDir()
	w.mount("soft", "timeo=2s", "complete=off", "allow_private", "proxy=none")
	if got := w.readSoon("private", "disk.img"); !bytes.HasPrefix(got, []byte("a secret")) {
		t.Errorf("allow_private: %q", got)
	}
	w.umount()

	// list reads packages by the same rules.
	var rows []struct{ Name, State string }
	cmd := exec.Command(binary, "list", "--json", "-o", "cache="+t.TempDir()+",state="+t.TempDir()+",proxy=none", w.feed)
	out, _ := cmd.Output()
	if err := json.Unmarshal(out, &rows); err != nil || len(rows) != len(items) {
		t.Errorf("list: %v, %s", err, out)
	}
	for _, row := range rows {
		if _, bad := rejected[row.Name]; bad != (row.State == "rejected") && row.Name != "rebinding" {
			t.Errorf("list: %s is %s", row.Name, row.State)
		}
	}
}

// nameServer answers for the names of the test.
type nameServer struct {
	mu      sync.Mutex
	address map[string]string
}

func (s *nameServer) set(name, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.address[name] = address
}

func serveNames(t *testing.T) *nameServer {
	s := &nameServer{address: map[string]string{
		"inside.example.": privateAddress, "rebinding.example.": publicAddress2, "feed.example.": publicAddress, "localhost.": "127.0.0.1",
	}}
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 512)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			if answer, err := s.answer(b[:n]); err == nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	return s
}

func (s *nameServer) answer(query []byte) ([]byte, error) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil, err
	}
	q, err := p.Question()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	address := net.ParseIP(s.address[q.Name.String()])
	s.mu.Unlock()
	h.Response, h.Authoritative = true, true
	if address == nil {
		h.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, h)
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if address != nil && q.Type == dnsmessage.TypeA {
		if err := b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 0}, dnsmessage.AResource{A: [4]byte(address.To4())}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}
