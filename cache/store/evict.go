package store

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

// docShare is the part of the limit that documents may take while anything else has to go.
const docShare = 8

// Files that go last keep their place while they take no more than lastShare of the limit, or were used
// within lastSpan.
const (
	lastShare = 0.75
	lastSpan  = 7 * 24 * time.Hour
)

// evict frees want bytes, or as many as it can, and returns how many: first the documents beyond their
// share; then whole files that nobody has open; then cold blocks of the files open here, pinned ones
// last; then the other documents, and what goes last. What was used least recently goes first. Kept files
// lose nothing. The caller holds quota.mu.
func (s *Store) evict(want int64) (freed int64) {
	never, last := s.held()
	docs := s.docEntries()
	whole := s.opt.Limit
	if whole <= 0 {
		whole = s.usage().total()
	}
	spared := maps.Clone(never)
	maps.Copy(spared, last)
	freed = s.evictDocs(docs, whole/docShare, want, spared)
	if freed < want {
		freed += s.evictFiles(want-freed, spared)
	}
	freed += s.evictDocs(docs, 0, want-freed, spared)
	if freed < want {
		freed += evictLast(s, want-freed, int64(lastShare*float64(whole)), last, never)
	}
	s.evictedBytes.Add(freed)
	return freed
}

// evictLast frees want bytes of files that cannot be fetched again, or as many as it can. It leaves those
// that were used within lastSpan, and of the others share bytes.
func evictLast(s *Store, want, share int64, last, never map[Key]bool) (freed int64) {
	all, _ := s.files.entries()
	all = slices.DeleteFunc(all, func(e entry) bool { return !last[e.key] || never[e.key] })
	sum := int64(0)
	for _, e := range all {
		st, _ := s.files.StatOf(string(e.key) + dataSuffix)
		sum += st.Blocks * 512
	}
	for _, e := range all {
		if freed >= want || sum-freed <= share || time.Since(e.used) < lastSpan {
			break
		}
		if n, err := s.removeFile(e.key); err == nil {
			s.log.Warn("a cached file that cannot be fetched again was evicted", "file", e.key, "bytes", n)
			s.evictedFiles.Add(1)
			freed += n
		}
	}
	return freed
}

// evictFiles frees want bytes of files that are not kept, or as many as it can.
func (s *Store) evictFiles(want int64, kept map[Key]bool) (freed int64) {
	all, err := s.files.entries()
	if err != nil {
		s.warn("cannot list the cache", "err", err)
	}
	s.mu.Lock()
	idle := slices.DeleteFunc(all, func(e entry) bool { return s.open[e.key] != nil || kept[e.key] })
	s.mu.Unlock()
	for _, e := range idle {
		if freed >= want {
			return freed
		}
		if n, err := s.removeFile(e.key); err == nil {
			s.log.Info("cached file evicted", "file", e.key, "bytes", n)
			s.evictedFiles.Add(1)
			freed += n
		}
	}
	open := slices.DeleteFunc(s.openFiles(), func(f *File) bool { return kept[f.key] })
	slices.SortFunc(open, func(a, b *File) int {
		if a, b := a.holds.pinned(), b.holds.pinned(); a != b {
			if b {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.lastUse.Load(), b.lastUse.Load())
	})
	for _, f := range open {
		if freed >= want {
			break
		}
		freed += evictCold(f, want-freed)
	}
	return freed
}

// filesDir is the directory of the cached files.
type filesDir struct{ privdir.Dir }

// entry is a cached file as the directory shows it.
type entry struct {
	key  Key
	used time.Time
}

// entries lists the files of the directory, the least recently used first.
func (d filesDir) entries() ([]entry, error) {
	names, err := d.Names()
	if err != nil {
		return nil, err
	}
	var all []entry
	for _, n := range names {
		k, ok := strings.CutSuffix(n, journalSuffix)
		if !ok || Key(k).check() != nil {
			continue
		}
		e := entry{key: Key(k)}
		if st, err := d.StatOf(k + lockSuffix); err == nil {
			e.used = time.Unix(st.Mtim.Unix())
		}
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.used.Compare(b.used) })
	return all, nil
}

// removeFile deletes a file that nobody has open, and returns the disk space that this frees.
func (s *Store) removeFile(k Key) (int64, error) {
	name := string(k)
	lock, err := s.files.OpenFile(name+lockSuffix, unix.O_RDWR|unix.O_CREAT)
	if err != nil {
		return 0, err
	}
	defer lock.Close()
	if ok, err := tryLock(lock, unix.F_WRLCK, lockOpen); err != nil || !ok {
		return 0, cmp.Or(err, ErrInUse)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(lock.Fd()), &st); err != nil || st.Nlink == 0 {
		return 0, cmp.Or(err, fs.ErrNotExist)
	}
	data, err := s.files.StatOf(name + dataSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	journal, err := s.files.StatOf(name + journalSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	// Freeing a great file takes a while: it happens under another name, after the lock is given back.
	gone := gonePrefix + rand.Text()
	errs := []error{s.files.Remove(name + journalSuffix), s.files.Rename(name+dataSuffix, gone), s.files.Remove(name + lockSuffix)}
	lock.Close()
	errs = append(errs, s.files.Remove(gone))
	for _, err := range errs {
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
	}
	s.forgetFile(k)
	return (data.Blocks + journal.Blocks) * 512, nil
}

// evictCold punches out blocks that were not used for one era at least, and returns how many bytes that
// freed. A file that another process has pinned is left to that process, which knows what is cold there.
func evictCold(f *File, want int64) (freed int64) {
	if f.loose.Load() != nil || lockedElsewhere(f.lock, lockPin) {
		return 0
	}
	done, err := f.j.begin()
	if err != nil {
		return 0
	}
	defer done()
	if !f.holds.tryPunch() {
		return 0
	}
	defer f.holds.endPunch()
	var buf []byte
	var gone []record
	for at := int64(0); freed < want; {
		b, n := f.present.coldRun(at, want-freed)
		if n == 0 || f.data.punch(b, n) != nil {
			break
		}
		freed += f.data.offset(n)
		gone = append(gone, record{kind: kindDrop, pos: b, value: uint32(n)})
		buf = appendRecord(buf, f.j.h.salt, gone[len(gone)-1])
		at = b + n
	}
	if freed == 0 {
		return 0
	}
	if err := f.j.append(buf); err != nil {
		f.s.warn("cannot journal eviction", "file", f.key, "err", err) // the checksums tell
	}
	f.present.applyAll(gone)
	return freed
}
