package catalog

import (
	"context"
	"time"

	"vmcastfs/xvm"
)

// judgeEvery is how often the packages are asked whether their verdicts still
// stand, so that one that time has changed is told of though nobody opens it.
const judgeEvery = 30 * time.Second

// policy is what is asked of packages now.
func (c *Catalog) policy() xvm.Policy {
	return xvm.Policy{Keyring: c.keyring.Load(), Required: c.cfg.RequireSigned}
}

// SetKeyring replaces the trusted keys. Every release is judged anew: what is open
// of one that is refused now goes on, and new opens of it fail.
func (c *Catalog) SetKeyring(keyring *xvm.Keyring) {
	c.keyring.Store(keyring)
	c.background(func(context.Context) { c.judgeAll() })
}

// judgeAll asks each package for its verdict, which makes it anew if need be.
func (c *Catalog) judgeAll() {
	now := time.Now()
	for _, r := range c.Snapshot().Releases() {
		if p, ok := r.Peek(); ok {
			c.around.sentry.watchKey(r.Name(), p.Verdict(), now)
		}
	}
}

// keepJudging calls judgeAll until ctx ends.
func (c *Catalog) keepJudging(ctx context.Context) {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.judgeAll()
		}
	}
}

// judged is told of a verdict that took the place of another.
func (r *Release) judged(was, is *xvm.Verdict) {
	// A sidecar is looked for when a package is opened, and another one may count.
	again := is.Refused != "" && (was.UsesSidecar() || is.WantsSidecar() && r.around.bundles.Sidecar != "")
	if was.Refused == is.Refused && !again {
		return
	}
	r.around.run(func(context.Context) {
		r.around.sentry.remember(r.item, is)
		if is.Refused == "" {
			r.around.log.Info("the release is trusted now", "release", r.Name(), "signer", is.Signer())
		}
		if again {
			r.around.reopen(r)
		}
		r.around.changed()
	})
}
