package catalog

import (
	"context"

	"vmcastfs/xvm"
)

// policy is what is asked of packages now.
func (c *Catalog) policy() xvm.Policy {
	return xvm.Policy{Keyring: c.keyring.Load(), Required: c.cfg.RequireSigned}
}

// SetKeyring replaces the trusted keys. Every release is judged anew: what is open
// of one that is refused now goes on, and new opens of it fail.
func (c *Catalog) SetKeyring(keyring *xvm.Keyring) {
	c.keyring.Store(keyring)
	c.background(func(context.Context) {
		for _, r := range c.Snapshot().Releases() {
			if p, ok := r.Peek(); ok {
				p.Verdict() // is made anew
			}
		}
	})
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
