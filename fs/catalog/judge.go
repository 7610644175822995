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
	c.tasks.run(func(context.Context) {
		for _, r := range c.Snapshot().Releases() {
			if p, ok := r.Peek(); ok {
				p.Verdict() // is made anew
			}
		}
	})
}
