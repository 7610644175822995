package source

import (
	"context"
	"sync/atomic"
)

// A Trial goes with a fetch whose bytes the caller compares with block sums. Only then may a
// supplier take part that nobody trusts.
type Trial struct{ supplier atomic.Pointer[Supplier] }

// A Supplier gives bytes that are believed only where sums prove them.
type Supplier interface {
	Name() string // for people
	// Accuse says that a block did not match. settle must be called once, when it is known
	// whether the supplier has lied.
	Accuse() (settle func(lied bool))
}

type trialKey struct{}

// WithTrial returns a context for one fetch whose blocks are compared.
func WithTrial(ctx context.Context) (context.Context, *Trial) {
	t := &Trial{}
	return context.WithValue(ctx, trialKey{}, t), t
}

// TrialOf returns the trial of a fetch, or nil.
func TrialOf(ctx context.Context) *Trial {
	t, _ := ctx.Value(trialKey{}).(*Trial)
	return t
}

// From says that s supplies bytes of the fetch.
func (t *Trial) From(s Supplier) { t.supplier.Store(&s) }

// Name is that of the supplier, "" if there is none.
func (t *Trial) Name() string {
	if t == nil || t.supplier.Load() == nil {
		return ""
	}
	return (*t.supplier.Load()).Name()
}

// Accuse accuses the supplier, if there is one. nil: there is none.
func (t *Trial) Accuse() (settle func(lied bool)) {
	if t == nil {
		return nil
	}
	if s := t.supplier.Load(); s != nil {
		return (*s).Accuse()
	}
	return nil
}
