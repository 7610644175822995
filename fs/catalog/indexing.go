package catalog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"vmcastfs/cache/remote"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// load indexes the release and says how that went.
func (r *Release) load(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(indexTimeout, func() { cancel(context.DeadlineExceeded) })
	defer deadline.Stop()
	ctx, stop := r.patience(ctx)
	defer stop()
	was := r.URL()
	pkg, err := r.open(ctx, func() { deadline.Reset(longIndex) })
	if archive.IsLost(err) && r.renewed(ctx, was) {
		pkg, err = r.open(ctx, func() { deadline.Reset(longIndex) })
	}
	if err != nil {
		if context.Cause(ctx) == errDown && !errors.Is(err, errDown) {
			err = fmt.Errorf("%w: %w", errDown, err)
		}
		if context.Cause(ctx) == context.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
		}
		err = r.explain(err)
		r.cat.cfg.Logger.Error("release cannot be opened", "release", r.Name(), "err", err)
	} else {
		pkg.remember()
		pkg.logFaults()
		pkg.earlyBlocks(ctx)
		pkg.findSizes(ctx)
		pkg.findJoined(ctx)
		pkg.archive.DropHead()
	}
	r.mu.Lock()
	if err != nil {
		r.failed = &failure{err, time.Now()}
	} else {
		r.pkg, r.failed = pkg, nil
	}
	close(r.loading)
	r.loading, r.taking = nil, nil
	r.mu.Unlock()
	if err == nil {
		pkg.archive.Move() // it may have moved meanwhile
	}
}

// take tells status what is being taken whole.
func (r *Release) take(w archive.Content) {
	r.mu.Lock()
	r.taking = w
	r.mu.Unlock()
}

// indexing tells whether the release is being indexed, and how many bytes have
// been taken of an archive that has to be read, or inflated, whole.
func (r *Release) indexing() (taken int64, yes bool) {
	r.mu.Lock()
	w, yes := r.taking, r.loading != nil
	r.mu.Unlock()
	if w != nil {
		taken = w.Taken()
	}
	return taken, yes
}

// explain says what was found instead of a package, and what to do.
func (r *Release) explain(err error) error {
	what := fmt.Sprintf("release %s: %s", r.Name(), displayURL(r.URL()))
	var tar *xvm.TarError
	switch {
	case errors.Is(err, remote.ErrNotFound):
		return fmt.Errorf("%s: the package is not on the server; tell the publisher: %w", what, err)
	case errors.As(err, &tar):
		return fmt.Errorf("%s: %w; tell the publisher", what, err)
	case errors.Is(err, errDown):
		return fmt.Errorf("%s: its server has been failing; it is tried again at the next use: %w", what, err)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: no answer within %s; it is tried again at the next use: %w", what, indexTimeout, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// open finds the package: from the disk, else from its server. It calls more
// when that is going to take long.
func (r *Release) open(ctx context.Context, more func()) (_ *Package, err error) {
	defer func() {
		// A fault in what reads the archive must not end the process that
		// serves the mount.
		if p := recover(); p != nil {
			r.cat.cfg.Logger.Error("panic while indexing a release", "release", r.Name(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal error: %v", p)
		}
	}()
	if doc := r.loadDoc(); doc != nil {
		a := archive.Resume(r.cat.archives, r.place(), doc.Identity)
		content := a.Content()
		if doc.Inflate != "" {
			content = a.Inflated(doc.Inflate, doc.Stored, doc.Index.Size)
		}
		pkg, changed, err := r.join(ctx, a, content, doc)
		if changed && err == nil {
			r.cat.saveDoc(kindPackage, r.docName(), doc)
		}
		return pkg, err
	}
	a, err := archive.Open(ctx, r.cat.archives, r.place())
	if err != nil {
		return nil, err
	}
	stored := a.Content()
	if err := stored.Acquire(); err != nil {
		return nil, err
	}
	defer stored.Release()
	if !a.Identity().Ranged {
		more()
		r.take(stored)
	}
	doc, content, err := r.readEnclosure(ctx, a, stored, more)
	if err != nil {
		return nil, err
	}
	doc.Identity = a.Identity()
	pkg, _, err := r.join(ctx, a, content, doc)
	if err != nil {
		return nil, err
	}
	r.cat.saveDoc(kindPackage, r.docName(), doc)
	r.mu.Lock()
	r.checked = time.Now()
	r.mu.Unlock()
	return pkg, nil
}

// join is newPackage with the sidecar, if there is one; changed: the doc is to
// be saved.
func (r *Release) join(ctx context.Context, a *archive.Archive, content archive.Content, doc *packageDoc) (p *Package, changed bool, err error) {
	kept := doc.Sidecar
	sc, warning, err := r.findSidecar(ctx, doc)
	if err != nil {
		return nil, false, err
	}
	verdict, err := r.judge(doc)
	if err != nil {
		return nil, false, err
	}
	if p, err = newPackage(r, a, content, doc, verdict); err != nil {
		return nil, false, err
	}
	if warning != "" {
		p.warnings = append(p.warnings, warning)
		r.cat.cfg.Logger.Warn(warning, "release", r.Name())
	}
	if sc != nil {
		p.blocks.Offer(sc.Blocks, sc.Points)
	}
	return p, kept != doc.Sidecar, nil
}

// readPackage walks the archive and reads the members that describe the rest.
func readPackage(ctx context.Context, a xvm.ReaderAt, size int64, more func()) (*packageDoc, error) {
	index, err := archive.Walk(ctx, a, size, more)
	if err != nil {
		return nil, err
	}
	small, err := xvm.ReadSmall(ctx, a, index)
	if err != nil {
		return nil, err
	}
	return &packageDoc{Version: packageDocVersion, Index: index, Meta: small}, nil
}

// loadDoc returns what is persisted, if it is whole.
func (r *Release) loadDoc() *packageDoc {
	raw, err := r.cat.cfg.Store.GetDoc(kindPackage, r.docName())
	if err != nil {
		return nil
	}
	var doc packageDoc
	if err := json.Unmarshal(raw, &doc); err != nil || doc.Index == nil || doc.Index.Validate() != nil {
		return nil
	}
	switch doc.Version {
	case packageDocVersion:
	case packageDocVersion - 1:
		doc.forgetInflated()
	default:
		return nil
	}
	return &doc
}
