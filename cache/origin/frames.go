package origin

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// A Frames is a server that answers every request with HTTP/2 frames of its choice over
// TLS, whatever protocol was agreed on, and then says nothing more.
type Frames struct {
	listener net.Listener
	requests atomic.Int64
	open     sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

// An Attack writes the frames of an answer to a stream; an error ends the connection.
type Attack func(f *http2.Framer, stream uint32) error

// NewFrames starts a server on a loopback address with the certificate of s, which must
// have been started with TLS.
func (s *Server) NewFrames(attack Attack) (*Frames, error) {
	s.mu.Lock()
	cert := s.cert
	s.mu.Unlock()
	if cert == nil {
		return nil, fmt.Errorf("start a server of frames: the origin has no certificate")
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"},
	})
	if err != nil {
		return nil, fmt.Errorf("start a server of frames: %w", err)
	}
	f := &Frames{listener: l, conns: map[net.Conn]struct{}{}}
	f.open.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[conn] = struct{}{}
			f.mu.Unlock()
			f.open.Go(func() { f.serve(conn.(*tls.Conn), attack) })
		}
	})
	return f, nil
}

// URL returns the address of the server, as https://host:port.
func (f *Frames) URL() string { return "https://" + f.listener.Addr().String() }

// Requests returns how many requests have been answered.
func (f *Frames) Requests() int64 { return f.requests.Load() }

// Close breaks all connections.
func (f *Frames) Close() error {
	err := f.listener.Close()
	f.mu.Lock()
	for conn := range f.conns {
		conn.Close()
	}
	f.mu.Unlock()
	f.open.Wait()
	return err
}

func (f *Frames) serve(conn *tls.Conn, attack Attack) {
	defer func() {
		conn.Close()
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
	}()
	if conn.Handshake() != nil {
		return
	}
	in := bufio.NewReader(conn)
	framer := http2.NewFramer(conn, in)
	if conn.ConnectionState().NegotiatedProtocol == "h2" {
		if _, err := io.ReadFull(in, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		if framer.WriteSettings() != nil {
			return
		}
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				return
			}
			if frame.Header().Type == http2.FrameHeaders {
				f.requests.Add(1)
				if attack(framer, frame.Header().StreamID) != nil {
					return
				}
			}
		}
	}
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(bytes.TrimSpace(line)) == 0 {
			f.requests.Add(1)
			if attack(framer, 1) != nil {
				return
			}
		}
	}
}

// Attacks returns misuses of HTTP/2, by name.
func Attacks() map[string]Attack {
	const flood = 20_000 // frames
	head := func(f *http2.Framer, stream uint32, end bool) error {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, field := range []hpack.HeaderField{{Name: ":status", Value: "206"}, {Name: "etag", Value: `"one"`},
			{Name: "content-range", Value: "bytes 0-131071/300000"}, {Name: "content-length", Value: "131072"}} {
			if err := e.WriteField(field); err != nil {
				return err
			}
		}
		return f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: end})
	}
	after := func(then Attack) Attack {
		return func(f *http2.Framer, stream uint32) error {
			if err := head(f, stream, true); err != nil {
				return err
			}
			return then(f, stream)
		}
	}
	many := func(one Attack) Attack {
		return func(f *http2.Framer, stream uint32) error {
			for range flood {
				if err := one(f, stream); err != nil {
					return err
				}
			}
			return nil
		}
	}
	overflow := func(f *http2.Framer, stream uint32) error { return f.WriteWindowUpdate(stream, 1<<31-1) }
	reset := func(f *http2.Framer, stream uint32) error { return f.WriteRSTStream(stream, http2.ErrCodeInternal) }
	return map[string]Attack{
		"silence":                         func(*http2.Framer, uint32) error { return nil },
		"silence after the header":        after(func(*http2.Framer, uint32) error { return nil }),
		"stream window overflows":         overflow,
		"stream window overflows, header": after(overflow),
		"connection window overflows":     func(f *http2.Framer, _ uint32) error { return overflow(f, 0) },
		"window update of zero": func(f *http2.Framer, stream uint32) error {
			return f.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, make([]byte, 4))
		},
		"window of zero": func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize})
		},
		"window of 2^31": func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		},
		"more data than the window": after(many(func(f *http2.Framer, stream uint32) error { return f.WriteData(stream, false, make([]byte, 1<<14)) })),
		"reset":                     reset,
		"reset after the header":    after(reset),
		"refused": func(f *http2.Framer, stream uint32) error {
			return f.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
		},
		"goaway":                  func(f *http2.Framer, _ uint32) error { return f.WriteGoAway(0, http2.ErrCodeNo, nil) },
		"goaway after the header": after(func(f *http2.Framer, stream uint32) error { return f.WriteGoAway(stream, http2.ErrCodeNo, nil) }),
		"enhance your calm": func(f *http2.Framer, _ uint32) error {
			return f.WriteGoAway(1<<31-1, http2.ErrCodeEnhanceYourCalm, nil)
		},
		"no streams": func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams})
		},
		"settings flood": many(func(f *http2.Framer, _ uint32) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
		}),
		"ping flood":       many(func(f *http2.Framer, _ uint32) error { return f.WritePing(false, [8]byte{}) }),
		"empty data flood": after(many(func(f *http2.Framer, stream uint32) error { return f.WriteData(stream, false, nil) })),
		"reset flood":      many(reset),
		"continuation flood": func(f *http2.Framer, stream uint32) error {
			if err := head(f, stream, false); err != nil {
				return err
			}
			return many(func(f *http2.Framer, stream uint32) error {
				return f.WriteContinuation(stream, false, []byte{0x40, 1, 'x', 1, 'y'})
			})(f, stream)
		},
	}
}
