package catalog

import (
	"context"
	"sync/atomic"

	"vmcastfs/xvm"
)

// asking is what is asked of packages now.
type asking struct{ now atomic.Pointer[xvm.Policy] }

func (a *asking) policy() xvm.Policy { return *a.now.Load() }

// required tells whether signatures are.
func (a *asking) required() bool { return a.policy().Required }

// SetPolicy replaces the trusted keys, and says whether signatures are required from now
// on. Every release is judged anew: what is open of one that is refused now goes on, and
// new opens of it fail.
func (c *Catalog) SetPolicy(p xvm.Policy) {
	c.asked.now.Store(&p)
	c.tasks.Run(func(context.Context) {
		for _, r := range c.Snapshot().All() {
			if p, ok := r.Peek(); ok {
				p.Verdict() // is made anew
			}
		}
	})
}
