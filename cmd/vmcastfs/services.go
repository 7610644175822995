package main

import (
	"context"
	"log/slog"
	"sync"

	"vmcastfs/fs"
)

// services are what goes along with a mount: the page and the metrics, hooks, and
// systemd's view of it.
type services struct {
	http  *httpServer // or nil
	hooks *hooks      // or nil
	vms   string      // directory of the machines
	watch *supervisor
	keys  chan struct{} // gets a value when the keyring is to be looked at
}

// lookAtKeys has the keyring looked at now.
func (a *services) lookAtKeys() {
	select {
	case a.keys <- struct{}{}:
	default: // that is about to happen
	}
}

// newServices makes them before the mount, so that what they cannot do is an
// error of the mount.
func newServices(s *session, o options, feedURL, dir string, log *slog.Logger) (*services, error) {
	a := &services{watch: &supervisor{dir: dir, status: s.catalog.Status}, keys: make(chan struct{}, 1), vms: o.Feed.VMs}
	if err := checkHooks(o); err != nil {
		return nil, err
	}
	if o.Hooks != "" || o.OnEvent != "" || o.Feed.HTTP != "" { // the page shows the last events
		a.hooks = &hooks{
			dir: o.Hooks, program: o.OnEvent, mount: dir, feed: feedURL,
			store: s.store, status: s.catalog.Status, log: log,
		}
	}
	var err error
	if o.Feed.HTTP != "" {
		a.http, err = listenHTTP(o.Feed.HTTP)
	}
	return a, err
}

// start sets them to work; stop ends it and waits. Page, metrics and
// hooks end before that when the mount is detached: they are the next one's, which serves who comes
// from then on.
func (a *services) start(ctx context.Context, s *session, server *fs.Server, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	attached, detach := context.WithCancel(ctx)
	var work sync.WaitGroup
	a.watch.answers = server.Answers
	a.watch.ready()
	work.Go(func() { a.watch.run(ctx) })
	if s.keys != nil {
		work.Go(func() { s.keys.run(ctx, a.keys) })
	}
	unsubscribe := func() {}
	if a.hooks != nil {
		changed := make(chan struct{}, 1)
		unsubscribe = s.catalog.Subscribe(func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		})
		work.Go(func() { a.hooks.run(attached, changed) })
	}
	if a.http != nil {
		work.Go(func() { a.http.serve(a.watch.dir, pageSource(a, s), server.Stats, log) })
	}
	if a.hooks != nil {
		work.Go(func() {
			if err := server.WaitDetached(attached); err != nil && attached.Err() == nil {
				log.Warn("a mount that is detached would keep its page, metrics and hooks", "err", err)
				<-attached.Done()
			}
			detach()
			a.close()
		})
	}
	return func() {
		unsubscribe()
		cancel()
		a.close()
		work.Wait()
		detach()
	}
}

// close ends what newServices began; it may be called again.
func (a *services) close() {
	if a.http != nil {
		a.http.close()
	}
}
