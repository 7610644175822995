package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"vmcastfs/cmd/internal/page"
	"vmcastfs/fs"
)

// httpAddress checks the value of http=: unix:/path, or a port of a loopback
// address. What a mount does is nobody else's business.
func httpAddress(v string) (network, address string, err error) {
	if path, ok := strings.CutPrefix(v, "unix:"); ok {
		if !filepath.IsAbs(path) {
			return "", "", errors.New("the path of a unix socket must be absolute: unix:/path")
		}
		return "unix", path, nil
	}
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return "", "", errors.New("must be unix:/path or 127.0.0.1:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", "", errors.New("must name a port from 1 to 65535")
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", "", fmt.Errorf("%q is no loopback address: the page and the metrics are for this machine alone, use unix:/path or 127.0.0.1:port", host)
	}
	return "tcp", v, nil
}

// httpServer answers GET /metrics, and shows the mount to people.
type httpServer struct {
	listener net.Listener
	path     string // of a unix socket
	http     *http.Server
	once     sync.Once // for close
	end      func()    // ends what is being watched
}

// maxPeople is how many connections there are at most: whoever opens thousands of them
// takes the page from others, and no file from the mount.
const maxPeople = 64

// leaveTime is how long a mount that has just been detached may take to leave its
// address to the next.
const leaveTime = 2 * time.Second

// listenHTTP takes the address before the mount is made, so that an address
// that is taken is an error of the mount.
func listenHTTP(option string) (*httpServer, error) {
	network, address, err := httpAddress(option)
	if err != nil {
		return nil, usagef("option http=%s: %w", option, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &httpServer{end: cancel, http: &http.Server{
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}}
	for end := time.Now().Add(leaveTime); ; time.Sleep(50 * time.Millisecond) {
		if network == "tcp" {
			m.listener, err = net.Listen(network, address)
		} else {
			m.path = address
			m.listener, err = listenUnix(address)
		}
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		cancel()
		return nil, withCode(exitSystem, fmt.Errorf("option http: %w", err))
	}
	return m, nil
}

// listenUnix makes a socket of mode 0600. It is bound beside its place and then
// moved there, so that it is never open to others, and replaces what a killed
// process left.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("%s is there and is no socket", path)
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w: each mount needs a socket of its own", path, syscall.EADDRINUSE)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".vmcastfs-") // mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	bound := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: bound})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(bound, 0o600), os.Rename(bound, path)); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// serve answers for the mount on dir until close.
func (m *httpServer) serve(dir string, look page.Source, mount func() fs.Stats, log *slog.Logger) {
	registry := prometheus.NewRegistry()
	// Who scrapes many mounts tells them apart by the directory: the title of a
	// feed is a stranger's, and its address may not be everybody's business.
	prometheus.WrapRegistererWith(prometheus.Labels{"feed": strings.ToValidUTF8(dir, "?")}, registry).MustRegister(&collector{look.Status, mount})
	registry.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(),
	)
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2, Timeout: 10 * time.Second}))
	mux.Handle("GET /", page.Handler(look))
	hosts := ""
	if m.path == "" {
		hosts = m.listener.Addr().String()
	}
	m.http.Handler, m.http.ErrorLog = page.Guard(mux, hosts), slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	if err := m.http.Serve(netutil.LimitListener(m.listener, maxPeople)); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		log.Error("the page and the metrics have ended", "err", err)
	}
}

// close may be called again, and without serve.
func (m *httpServer) close() {
	m.once.Do(func() {
		if m.path != "" {
			_ = os.Remove(m.path)
		}
		m.listener.Close()
		m.end()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if m.http.Shutdown(ctx) != nil {
			m.http.Close()
		}
	})
}
