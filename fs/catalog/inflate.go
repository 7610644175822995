package catalog

import (
	"fmt"

	"vmcastfs/cache"
	"vmcastfs/cache/store"
	"vmcastfs/feed"
	"vmcastfs/xvm/seekable"
)

// inflation makes a wholeArchive the plain content of an archive that was
// compressed as a whole. It is inflated as one stream into a file of the cache,
// and members are cut from that file. The compressed bytes are not kept, but
// where the server has no ranges.
//
// Its fields but format and stored are guarded by the wholeArchive's mu, which
// comes before that of under.
type inflation struct {
	format seekable.Format
	stored int64         // bytes of the compressed archive
	under  *wholeArchive // the compressed archive on a server without ranges, or nil
	plain  int64         // bytes of the inflated archive, or store.Unknown
	reader *seekable.Reader
}

// inflatedArchive is the inflated form of a, or of whole if the server has no
// ranges.
func (r *Release) inflatedArchive(a *archive, whole *wholeArchive, format seekable.Format, stored int64) *wholeArchive {
	return &wholeArchive{
		cat: r.cat, archive: a, label: r.Name() + " (inflated archive)",
		key:       keyOf(feed.URLKey(r.item.URL), a.id.ETag, a.id.LastModified, fmt.Sprint(a.id.Size), "inflated", string(format)),
		inflation: &inflation{format: format, stored: stored, under: whole, plain: store.Unknown},
	}
}

// setUp is what to open; w.mu is held.
func (w *wholeArchive) setUp() (cache.Spec, error) {
	spec := cache.Spec{
		Key: w.key, Label: w.label, Size: w.archive.id.Size, Source: w.archive.Source,
		Whole: true, MaxSize: maxImageSize,
	}
	in := w.inflation
	if in == nil {
		return spec, nil
	}
	if err := in.under.acquire(); err != nil {
		return cache.Spec{}, err
	}
	var src seekable.ReaderAt = w.archive
	if in.under != nil {
		src = in.under
	}
	reader, err := seekable.Open(in.format, src, in.stored, seekable.Options{MaxSize: maxImageSize, Budget: w.cat.cfg.inflate.archives, Logger: w.cat.cfg.Logger})
	if err != nil {
		in.under.release()
		return cache.Spec{}, err
	}
	if points, err := w.cat.cfg.Store.GetDoc(kindPoints, string(w.key)); err == nil {
		if err := reader.Restore(points); err != nil {
			w.cat.cfg.Logger.Warn("seek points are not usable; the stream is read from its start", "file", w.label, "err", err)
		}
	}
	in.reader = reader
	spec.Size, spec.Source = in.plain, inflated{reader}
	return spec, nil
}

// tearDown undoes setUp; w.mu is held.
func (w *wholeArchive) tearDown() {
	in := w.inflation
	if in == nil {
		return
	}
	if points, changed := in.reader.Points(); changed {
		if err := w.cat.cfg.Store.PutDoc(kindPoints, string(w.key), points); err != nil {
			w.cat.cfg.Logger.Warn("seek points are not kept", "file", w.label, "err", err)
		}
	}
	in.reader.Close()
	in.reader = nil
	in.under.release()
}

// known gives the inflated archive the size that it was found to have.
func (w *wholeArchive) known(size int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inflation.plain = size
}
