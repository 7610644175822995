package main

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/page"
	"vmcastfs/feed/show"
)

// uiCommand is `vmcastfs ui DIR`.
func uiCommand(e *env) *cobra.Command {
	return &cobra.Command{
		Use:   "ui DIR",
		Short: "print the address of the page that shows a mount",
		Long: `ui prints the address at which a browser on this machine shows the mount on DIR:
its images and their last boots, releases, cache and servers. The mount needs
-o http=127.0.0.1:PORT or -o http=unix:PATH.

For a unix socket, ui serves the page on a port of the loopback address until
Ctrl-C. The address holds a token that counts once: the first browser that
opens it is let in.`,
		Example: `  vmcastfs mount -o http=unix:/run/vmcast.sock \
    https://example.org/vmcast.xml /srv/vmcast
  vmcastfs ui /srv/vmcast`,
		Args:              exactArgs(1, "a DIR"),
		ValidArgsFunction: completeMount,
		RunE:              func(cmd *cobra.Command, args []string) error { return ui(e, cmd.Context(), args[0]) },
	}
}

func ui(e *env, ctx context.Context, dir string) error {
	m, err := liveMount(ctx, dir)
	if err != nil {
		return err
	}
	network, address, err := httpAddress(m.Status.HTTP) // the process behind a mount need not be ours
	switch {
	case m.Status.HTTP == "":
		return withCode(exitFailed, fmt.Errorf("the mount on %s has no page: mount it with -o http=127.0.0.1:PORT or -o http=unix:PATH", m.Dir))
	case err != nil:
		return withCode(exitFailed, fmt.Errorf("the mount on %s: http=%s: %w", m.Dir, show.Text(m.Status.HTTP), err))
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: statusLimit}).DialContext(ctx, network, address)
	}
	conn, err := dial(ctx, "", "")
	if err != nil {
		return withCode(exitFailed, fmt.Errorf("the page of %s cannot be reached: %w", m.Dir, err))
	}
	conn.Close()
	if network == "tcp" {
		fmt.Fprintf(e.stdout, "http://%s/\n", address)
		return nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return withCode(exitSystem, err)
	}
	token := rand.Text()
	s := &http.Server{
		Handler: page.Guard(letIn(token, rand.Text(), relayTo(dial)), l.Addr().String()), ReadHeaderTimeout: 5 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	fmt.Fprintf(e.stdout, "http://%s/?token=%s\n", l.Addr(), token)
	if terminalOf(e.stderr) != nil {
		fmt.Fprintln(e.stderr, "vmcastfs: the address counts once; Ctrl-C ends it")
	}
	context.AfterFunc(ctx, func() { s.Close() })
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return withCode(exitSystem, err)
	}
	return nil // how it ends
}

// relayTo hands requests on to the page of a mount.
func relayTo(dial func(ctx context.Context, network, address string) (net.Conn, error)) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "localhost"}) },
		Transport:     &http.Transport{DialContext: dial},
		FlushInterval: -1, // events go at once
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, "the mount does not answer: has it ended?", http.StatusBadGateway)
		},
	}
}

// letIn lets that browser through which shows the token first: it gets a cookie in
// its place. The port is open to all users of the machine.
func letIn(token, pass string, next http.Handler) http.Handler {
	var used atomic.Bool
	same := func(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
	const name = "vmcastfs"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, err := r.Cookie(name); err == nil && same(c.Value, pass) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Time{}) // that of the page counts
			r.Header.Del("Cookie")
			next.ServeHTTP(w, r)
			return
		}
		if !same(r.URL.Query().Get("token"), token) || used.Swap(true) {
			http.Error(w, "this address is for one browser alone: run `vmcastfs ui` again for another", http.StatusForbidden)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: name, Value: pass, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode})
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
}
