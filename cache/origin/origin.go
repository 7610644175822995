package origin

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// A Server serves the files that were Put to it. The zero value is not usable; see [New].
type Server struct {
	link   link
	alarms alarms

	mu          sync.Mutex // guards all below
	files       map[string]*file
	latency     time.Duration
	connLatency time.Duration
	faults      []*injected
	rand        *mathrand.Rand
	stats       map[string]Stats
	log         []*Request
	forbids     []forbidden
	violations  []Request
	conns       int64
	changes     int64 // numbers the ETags of ChangeETag

	ip      string   // where it listens, or will
	addr    string   // the same with the port, from the first start on
	port    *os.File // keeps that port until Close
	certPEM []byte
	cert    *tls.Certificate
	run     *run // nil unless started
}

// run is the time between Start and Close.
type run struct {
	http     *http.Server
	ctx      context.Context // ends at Close
	cancel   context.CancelFunc
	served   chan struct{}  // closed when the accept loop has ended
	requests sync.WaitGroup // those being answered
}

type file struct {
	content io.ReaderAt
	size    int64
	modTime time.Time
	etag    string
	header  http.Header
}

type connKey struct{}

// New returns a server with no files, no latency and no bandwidth limit, not yet started.
func New() *Server {
	return &Server{
		ip:    "127.0.0.1",
		files: map[string]*file{},
		stats: map[string]Stats{},
		rand:  mathrand.New(mathrand.NewPCG(1, 1)),
	}
}

// Start listens on a loopback address with plain HTTP/1.1. After Down or Close it listens on
// the address it had before; after Close another program may have that.
func (s *Server) Start() error { return s.start(nil) }

// ListenOn has the first Start of s listen on another address of this machine than 127.0.0.1, unless
// ip is "".
func ListenOn(s *Server, ip string) {
	if ip != "" {
		s.ip = ip
	}
}

// StartTLS is Start with HTTP/2 and HTTP/1.1 over TLS, with a certificate of its own
// for 127.0.0.1 and localhost; see [Server.CertPEM].
func (s *Server) StartTLS() error {
	s.mu.Lock()
	if s.cert == nil {
		cert, pem, err := selfSigned()
		if err != nil {
			s.mu.Unlock()
			return fmt.Errorf("make a certificate: %w", err)
		}
		s.cert, s.certPEM = cert, pem
	}
	cert := s.cert
	s.mu.Unlock()
	return s.start(cert)
}

func (s *Server) start(cert *tls.Certificate) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil {
		return errors.New("start origin: it is running")
	}
	if s.addr == "" {
		var err error
		if s.addr, s.port, err = KeepPort(s.ip); err != nil {
			return fmt.Errorf("start origin: %w", err)
		}
	}
	listener, err := net.Listen("tcp", s.addr)
	if err != nil {
		return fmt.Errorf("start origin: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &run{ctx: ctx, cancel: cancel, served: make(chan struct{})}
	run.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { run.serve(s, w, r) }),
		ReadHeaderTimeout: time.Minute,
		ErrorLog:          log.New(io.Discard, "", 0),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.conns++
			total := s.stats[""]
			total.Connections++
			s.stats[""] = total
			return context.WithValue(ctx, connKey{}, s.conns)
		},
	}
	s.run = run
	shaped := &shapedListener{listener, s, run}
	go func() {
		defer close(run.served)
		if cert != nil {
			run.http.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
			run.http.ServeTLS(shaped, "", "")
		} else {
			run.http.Serve(shaped)
		}
	}()
	return nil
}

// Close is Down for good: the port is free then.
func (s *Server) Close() error {
	err := s.Down()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.port != nil {
		err = errors.Join(err, s.port.Close())
		s.port = nil
	}
	return err
}

// Down stops listening, breaks all connections and waits until all answers have ended.
// Files, faults, counters and the port stay; Start brings the server back.
func (s *Server) Down() error {
	s.mu.Lock()
	run := s.run
	s.run = nil
	s.mu.Unlock()
	if run == nil {
		return nil
	}
	run.cancel()
	err := run.http.Close()
	<-run.served
	run.requests.Wait()
	s.alarms.close()
	return err
}

// serve answers one request of a run, whose end also ends the request.
func (run *run) serve(s *Server, w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	if s.run != run {
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	}
	run.requests.Add(1)
	s.mu.Unlock()
	defer run.requests.Done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(run.ctx, cancel)()
	s.ServeHTTP(w, r.WithContext(ctx))
}

// URL returns the server's address, "http://127.0.0.1:PORT" without a slash at the end,
// or "" before the first start.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.addr == "":
		return ""
	case s.cert != nil:
		return "https://" + s.addr
	}
	return "http://" + s.addr
}

// CertPEM returns the certificate that clients of StartTLS have to trust.
func (s *Server) CertPEM() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.certPEM
}

// SetLatency sets the time of one round trip, spent once per request.
func (s *Server) SetLatency(d time.Duration) {
	s.mu.Lock()
	s.latency = d
	s.mu.Unlock()
}

// SetConnLatency sets the time spent once per new connection.
func (s *Server) SetConnLatency(d time.Duration) {
	s.mu.Lock()
	s.connLatency = d
	s.mu.Unlock()
}

// SetBandwidth sets the capacity of the link shared by all connections, 0 for no limit.
// 100 Mbit/s are 12_500_000.
func (s *Server) SetBandwidth(bytesPerSecond int64) { s.link.setRate(bytesPerSecond) }

// Put serves size bytes of content at path, which begins with a slash, in place of what
// was there. A zero modTime, an empty etag (given with its quotes, and W/ if weak) and an
// empty ctype leave out their headers. content must stay readable and unchanged, and be
// safe for concurrent use.
func (s *Server) Put(path string, content io.ReaderAt, size int64, modTime time.Time, etag, ctype string) {
	header := http.Header{}
	if ctype != "" {
		header.Set("Content-Type", ctype)
	}
	s.mu.Lock()
	s.files[path] = &file{content, size, modTime, etag, header}
	s.mu.Unlock()
}

// PutBytes is Put with an ETag made of the content and the present time.
func (s *Server) PutBytes(path string, content []byte) {
	sum := sha256.Sum256(content)
	s.Put(path, bytes.NewReader(content), int64(len(content)), time.Now().Truncate(time.Second),
		`"`+hex.EncodeToString(sum[:8])+`"`, "application/octet-stream")
}

// SetHeader adds a header to all later answers with the content of path, until it is Put
// again.
func (s *Server) SetHeader(path, key, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.files[path]; ok {
		f := *old
		f.header = f.header.Clone()
		f.header.Set(key, value)
		s.files[path] = &f
	}
}

// Remove makes path answer 404.
func (s *Server) Remove(path string) {
	s.mu.Lock()
	delete(s.files, path)
	s.mu.Unlock()
}

// A shapedListener delays the first read of each connection by the connection latency.
type shapedListener struct {
	net.Listener
	server *Server
	run    *run
}

func (l *shapedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.server.mu.Lock()
	d := l.server.connLatency
	l.server.mu.Unlock()
	if d == 0 {
		return conn, nil
	}
	return &slowConn{Conn: conn, wait: sync.OnceFunc(func() {
		l.server.alarms.sleepUntil(l.run.ctx, time.Now().Add(d))
	})}, nil
}

type slowConn struct {
	net.Conn
	wait func()
}

func (c *slowConn) Read(p []byte) (int, error) {
	c.wait()
	return c.Conn.Read(p)
}

// selfSigned makes a certificate for the loopback addresses, valid for a day.
func selfSigned() (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: "vmcastfs test origin"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		DNSNames:              []string{"localhost"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}
