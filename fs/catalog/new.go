package catalog

import (
	"cmp"
	"context"
	"log/slog"

	"vmcastfs/cache/tasks"
	"vmcastfs/cache/trace"
	"vmcastfs/feed"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

// New makes a Catalog. It reads what is kept of releases; Start does all other I/O.
func New(cfg Config) *Catalog {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.inflate == (budgets{}) {
		n := cmp.Or(cfg.DecoderMemory, InflateMemory)
		cfg.inflate = newBudgets(n, n)
	}
	c := &Catalog{cfg: cfg, tasks: tasks.New(), releases: make(map[string]*Release)}
	c.asked.now.Store(&xvm.Policy{Keyring: cfg.Keyring, Required: cfg.RequireSigned})
	c.around = surroundings{
		bundles: newEnv(cfg, c.asked.policy, c.tasks.Run), remote: cfg.Remote, feedURL: cfg.FeedURL, log: cfg.Logger,
		sentry: &sentry{state: cfg.Trust, required: c.asked.required, feedURL: cfg.FeedURL, log: cfg.Logger},
		run:    c.tasks.Run, shelf: new(shelf),
		changed: c.notify, corrupt: c.tellCorrupt, replace: c.replace, reopen: c.reopen, lookAgain: c.lookAgain,
		kept: cfg.Kept, settle: c.settle,
		older: func(r *Release, file string) (image.Booted, bool) {
			return older(c.tasks.Context(), c.Snapshot(), cfg.Store, r, file)
		},
	}
	cfg.Remote.Mirrors().OnLie(c.notify)
	c.status.asking = make(chan struct{}, 1)
	c.snapshot.Store(&Snapshot{feed: &feed.Feed{}, byName: map[string]*Release{}})
	c.keeper = &keeper{
		kept:  cfg.Kept,
		store: cfg.Store, vms: cfg.VMs, feed: func() string { return c.poller.Status().URL }, cached: cfg.KeepCached, log: cfg.Logger, ctx: c.tasks.Context(),
		patience: cmp.Or(cfg.patience, localTimeout),
	}
	c.pinner = pinner{run: c.tasks.Run, done: c.pinCompleted, complete: cfg.Complete, log: cfg.Logger}
	c.warmer = warmer{how: cfg.Prewarm, limit: cfg.PrewarmLimit, run: c.tasks.Run, done: c.settle, log: cfg.Logger}
	c.loadKept()
	return c
}

// newEnv is what packages work with. Policy is Catalog's, run that of its tasks.
func newEnv(cfg Config, policy func() xvm.Policy, run func(func(context.Context)) bool) *bundle.Env {
	return &bundle.Env{
		Archives: archive.Env{
			Remote: cfg.Remote, Cache: cfg.Cache, Store: cfg.Store, Memory: cfg.inflate.archives, Linger: archive.NewLinger(run), Log: cfg.Logger, Go: run,
		},
		Images: image.Env{
			Store: cfg.Store, Cache: cfg.Cache, Log: cfg.Logger, Memory: cfg.inflate.members, Go: run,
			Lists: &image.ListMemory{}, Held: image.NewHeldBlocks(cfg.Store, cfg.Logger, run), Pool: &image.BlockPool{}, Boots: &trace.Pool{},
			Strict: cfg.Strict, AllowExternal: cfg.AllowExternal, Complete: cfg.Complete,
			Profile: cfg.Profile, ProfileReads: cfg.ProfileReads,
		},
		Policy:  policy,
		Sidecar: cfg.Sidecar,
		Reading: make(chan struct{}, 1),
	}
}
