package catalog

import (
	"context"

	"vmcastfs/xvm"
)

// policy is what is asked of packages now.
func (c *Catalog) policy() xvm.Policy { return *c.asked.Load() }

// required tells whether signatures are.
func (c *Catalog) required() bool { return c.policy().Required }

// SetPolicy replaces the trusted keys, and says whether signatures are required from now
// on. Every release is judged anew: what is open of one that is refused now goes on, and
// new opens of it fail.
func (c *Catalog) SetPolicy(p xvm.Policy) {
	c.asked.Store(&p)
	c.tasks.run(func(context.Context) {
		for _, r := range c.Snapshot().All() {
			if p, ok := r.Peek(); ok {
				p.Verdict() // is made anew
			}
		}
	})
}
