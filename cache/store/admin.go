package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Stats are the size of the whole cache, and counts of what happened in this process since Open.
type Stats struct {
	Dir          string     `json:"dir"`                // as given to Open
	Bytes        int64      `json:"bytes"`              // disk space that the cache takes now, in all processes
	DocBytes     int64      `json:"doc_bytes"`          // of that, documents
	Limit        int64      `json:"limit"`              // as given to Open; 0: none
	MinFree      int64      `json:"min_free"`           // likewise
	Free         int64      `json:"free"`               // what the filesystem has left for us
	Files        int        `json:"files"`              // in the directory
	Open         int        `json:"open"`               // of those, open in this process
	EvictedFiles int64      `json:"evicted_files"`      // whole files removed to make room
	EvictedBytes int64      `json:"evicted_bytes"`      // disk space freed to make room
	Damaged      int64      `json:"damaged"`            // blocks dropped because their bytes did not match
	Full         int64      `json:"full"`               // blocks refused with ErrFull
	FullAt       *time.Time `json:"full_at,omitempty"`  // when the last one was
	FullWhy      string     `json:"full_why,omitempty"` // and why: "limit", "floor", or what the disk said
	Failing      bool       `json:"failing"`            // that was ErrFailing
	Refusing     bool       `json:"refusing"`           // nothing has been written since
	ReadOnly     bool       `json:"read_only"`          // the disk takes no writes: what is cached is served
}

// Stats looks at the directory, which takes some stats for each file.
func (s *Store) Stats() Stats {
	free, _ := s.files.free()
	used := s.usage()
	return s.Known(Stats{Bytes: used.total(), DocBytes: used.documents, Free: free, Files: used.files})
}

// Known is Stats from memory: what only the directory tells is as it was in seen.
func (s *Store) Known(seen Stats) Stats {
	s.mu.Lock()
	open := len(s.open)
	s.mu.Unlock()
	st := Stats{
		Dir: s.opt.Dir, ReadOnly: s.readOnly,
		Bytes: seen.Bytes, DocBytes: seen.DocBytes, Limit: s.opt.Limit, MinFree: s.opt.MinFree, Free: seen.Free,
		Files: seen.Files, Open: open,
		EvictedFiles: s.evictedFiles.Load(), EvictedBytes: s.evictedBytes.Load(),
		Damaged: s.damaged.Load(), Full: s.full.Load(), Refusing: s.refusing.Load(),
	}
	if r := s.refusal.Load(); r != nil {
		st.FullAt, st.FullWhy, st.Failing = &r.at, r.why, r.failing
	}
	return st
}

// Info describes a cached file.
type Info struct {
	Key       Key
	Size      int64 // bytes, or Unknown
	BlockSize int
	Blocks    int64 // present
	Bytes     int64 // in those
	Disk      int64 // bytes of disk they take
	State     FileState
	Note      string
	Used      time.Time // to about a minute
	InUse     bool      // open, here or in another process
	Label     string    // as given to SetLabel
	Kept      bool      // never evicted, see Keep
	Hold      Hold      // likewise, see SetHold
	Err       error     // why the rest is not known, or nil
}

// List describes all files of the cache, the least recently used first. It reads their journals.
func (s *Store) List() ([]Info, error) {
	all, err := s.files.entries()
	if err != nil {
		return nil, fmt.Errorf("list cache: %w", err)
	}
	infos := make([]Info, 0, len(all))
	kept := s.kept()
	for _, e := range all {
		i, err := s.info(e)
		i.Kept = kept[e.key]
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		i.Err = err
		infos = append(infos, i)
	}
	return infos, nil
}

// Stat describes one cached file; [fs.ErrNotExist] if there is none.
func (s *Store) Stat(k Key) (Info, error) {
	if _, err := s.Stamp(k); err != nil {
		return Info{}, err
	}
	i, err := s.info(entry{key: k})
	i.Kept = s.HasDoc(kindKeep, string(k))
	return i, err
}

func (s *Store) info(e entry) (Info, error) {
	i := Info{Key: e.key, Size: Unknown, Used: e.used, Label: s.Label(e.key), Hold: s.HoldOf(e.key)}
	s.mu.Lock()
	i.InUse = s.open[e.key] != nil
	s.mu.Unlock()
	f, err := s.acquire(e.key, 0)
	if err != nil {
		return i, err
	}
	i.InUse = i.InUse || lockedElsewhere(f.lock, lockOpen)
	i.Size, i.BlockSize, i.State, i.Note = f.Size(), f.BlockSize(), f.State(), f.Note()
	i.Blocks, i.Bytes = f.Present()
	if st, err := s.files.StatOf(string(e.key) + dataSuffix); err == nil {
		i.Disk = st.Blocks * 512
	}
	return i, f.Close()
}

// Remove deletes a file from the cache; [ErrInUse] if it is open anywhere, [fs.ErrNotExist] if it is not there.
func (s *Store) Remove(k Key) error {
	_, err := s.Stamp(k)
	if err == nil {
		_, err = s.removeFile(k)
	}
	if err != nil {
		return fmt.Errorf("remove cached file %.12s: %w", string(k), err)
	}
	return nil
}

// Prune makes the cache take at most target bytes of disk, as far as the rules of eviction let it. It
// returns how many bytes that freed.
func (s *Store) Prune(target int64) (freed int64, err error) {
	s.quota.mu.Lock()
	defer s.quota.mu.Unlock()
	if s.readOnly {
		return 0, errReadOnly
	}
	before := s.usage().total()
	if before > target {
		s.evict(before - target)
	}
	return before - s.usage().total(), nil
}

// Progress of Verify.
type Progress struct {
	Files, FilesDone   int
	Blocks, BlocksDone int64 // of the files looked at so far, this one included
	BytesDone          int64 // in those blocks
	Damaged            int64 // blocks, all dropped
	Failed             int   // files that could not be opened
}

// Verify reads every present block of every file and drops those that are damaged. progress, if not nil, is called
// now and then. The error is ctx's, or that the directory cannot be read.
func (s *Store) Verify(ctx context.Context, progress func(Progress)) (Progress, error) {
	all, err := s.files.entries()
	if err != nil {
		return Progress{}, fmt.Errorf("verify cache: %w", err)
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	p := Progress{Files: len(all)}
	for _, e := range all {
		f, err := s.acquire(e.key, 0)
		if err == nil {
			if err := errors.Join(verify(ctx, f, &p, progress), f.Close()); err != nil {
				return p, fmt.Errorf("verify cache: %w", err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot verify cached file", "file", e.key, "err", err)
			p.Failed++
		}
		p.FilesDone++
		progress(p)
	}
	return p, nil
}

// verify reads every present block of a file.
func verify(ctx context.Context, f *File, p *Progress, progress func(Progress)) error {
	end := f.present.blocks()
	blocks, _ := f.Present()
	p.Blocks += blocks
	buf := make([]byte, f.BlockSize())
	for b := f.present.nextPresent(0); b < end; b = f.present.nextPresent(b + 1) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var damage *DamagedError
		n, err := f.ReadBlock(b, buf)
		p.BytesDone += int64(n)
		if errors.As(err, &damage) {
			p.Damaged++
		} else if err != nil && !errors.Is(err, ErrAbsent) {
			return err
		}
		if p.BlocksDone++; p.BlocksDone%256 == 0 {
			progress(*p)
		}
	}
	return nil
}

// Stamp tells whether what Stat would say of a file may have changed: it is the same as long as the
// file's journal is. It costs one stat; [fs.ErrNotExist] if there is no such file.
func (s *Store) Stamp(k Key) (Stamp, error) {
	if err := k.check(); err != nil {
		return Stamp{}, err
	}
	st, err := s.files.StatOf(string(k) + journalSuffix)
	if err != nil {
		return Stamp{}, err
	}
	return Stamp{st.Ino, st.Size, st.Mtim.Nano()}, nil
}

// Stamp is a moment in the life of a cached file; see [Store.Stamp].
type Stamp struct {
	ino   uint64
	size  int64
	mtime int64
}
