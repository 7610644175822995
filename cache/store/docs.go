package store

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

// Lasting is the kind of documents that are never evicted: without them nothing that is
// cached is found again.
const Lasting = "feed"

// documents are the small documents of a store. Its methods are the store's own.
type documents struct {
	root  privdir.Dir
	quota *quota
	warn  func(msg string, args ...any)
}

func docFile(kind, name string) (string, error) {
	if kind == "" || len(kind) > 32 || strings.Trim(kind, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return "", fmt.Errorf("kind of document %q: lower-case letters, digits and hyphens only", kind)
	}
	if name == "" || len(name) > maxDocName {
		return "", fmt.Errorf("name of document of %d bytes: 1 to %d", len(name), maxDocName)
	}
	h := sha256.Sum256([]byte(name))
	return hex.EncodeToString(h[:]), nil
}

// PutDoc stores a small document, whole or not at all, and durably. kind is a word of lower-case letters,
// digits and hyphens. name is any string of at most 4096 bytes: it is hashed, never a path. Documents
// count towards the limit, and may be evicted like files; [ErrFull] means that there is no room.
func (s *documents) PutDoc(kind, name string, data []byte) error {
	if err := s.putDoc(kind, name, data); err != nil {
		return fmt.Errorf("store %s document: %w", kind, err)
	}
	return nil
}

func (s *documents) putDoc(kind, name string, data []byte) error {
	file, err := docFile(kind, name)
	if err != nil {
		return err
	}
	if len(data) > MaxDoc {
		return fmt.Errorf("%d bytes: more than %d", len(data), MaxDoc)
	}
	b := encodeDoc(name, data)
	n := roundUp(int64(len(b)))
	if err := s.quota.reserve(n); err != nil {
		return err
	}
	d, err := s.root.MakeSub(kind)
	if err == nil {
		defer d.Close()
		err = d.Write(file, b)
	}
	if err != nil {
		s.quota.reserved.Add(-n)
		return full(err)
	}
	s.quota.written.Add(n)
	return nil
}

// GetDoc returns a document. One that is not there, or is damaged, is [fs.ErrNotExist].
func (s *documents) GetDoc(kind, name string) ([]byte, error) {
	file, err := docFile(kind, name)
	if err != nil {
		return nil, err
	}
	d, err := s.root.Sub(kind)
	if err != nil {
		return nil, fmt.Errorf("read %s document: %w", kind, err)
	}
	defer d.Close()
	got, data, err := readDoc(d, file)
	if err == nil && got != name {
		err = fs.ErrNotExist
	}
	if err != nil {
		if errors.Is(err, errDocDamaged) {
			s.warn("damaged document in the cache is ignored", "kind", kind, "name", name)
		}
		return nil, fmt.Errorf("read %s document: %w", kind, err)
	}
	if st, err := d.StatOf(file); err == nil && time.Since(time.Unix(st.Mtim.Unix())) > time.Minute {
		d.Touch(file) // it was used
	}
	return data, nil
}

// DeleteDoc removes a document; one that is not there is no error.
func (s *documents) DeleteDoc(kind, name string) error {
	file, err := docFile(kind, name)
	if err != nil {
		return err
	}
	d, err := s.root.Sub(kind)
	if err == nil {
		defer d.Close()
		err = d.Remove(file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s document: %w", kind, err)
	}
	return nil
}

// DocNames returns the names of the documents of a kind, in order. It does not read the documents to
// their ends: some may be damaged.
func (s *documents) DocNames(kind string) ([]string, error) {
	if _, err := docFile(kind, "-"); err != nil {
		return nil, err
	}
	d, err := s.root.Sub(kind)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s documents: %w", kind, err)
	}
	defer d.Close()
	files, err := d.Names()
	if err != nil {
		return nil, fmt.Errorf("list %s documents: %w", kind, err)
	}
	var names []string
	for _, file := range files {
		if name, err := readDocName(d, file); err == nil {
			if want, err := docFile(kind, name); err == nil && want == file {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// HasDoc tells whether there is such a document, which may be damaged. It costs one stat.
func (s *documents) HasDoc(kind, name string) bool {
	file, err := docFile(kind, name)
	if err != nil {
		return false
	}
	d, err := s.root.Sub(kind)
	if err != nil {
		return false
	}
	defer d.Close()
	_, err = d.StatOf(file)
	return err == nil
}

// docEntry is a document as its directory shows it.
type docEntry struct {
	kind, file string
	used       time.Time
	bytes      int64 // of disk
}

// docEntries lists all documents, the least recently used first, and what is left of some that were being written.
func (s *documents) docEntries() (all []docEntry) {
	s.eachDoc(func(e docEntry) { all = append(all, e) })
	slices.SortFunc(all, func(a, b docEntry) int { return a.used.Compare(b.used) })
	return all
}

// eachDoc calls fn with what docEntries lists, in no order.
func (s *documents) eachDoc(fn func(docEntry)) {
	kinds, _ := s.root.Names()
	for _, kind := range kinds {
		d, err := s.root.Sub(kind)
		if err != nil {
			continue
		}
		_ = d.Each(func(file string) {
			if st, err := d.StatOf(file); err == nil {
				fn(docEntry{kind, file, time.Unix(st.Mtim.Unix()), st.Blocks * 512})
			}
		})
		d.Close()
	}
}

// evictDocs removes documents, in the order of all, until those take no more than most bytes or want bytes
// are freed. It spares what people said of files, and everything that is named by a kept file. What it
// removed takes no bytes in all any more.
func (s *documents) evictDocs(all []docEntry, most, want int64, kept map[Key]bool) (freed int64) {
	var sum int64
	for _, e := range all {
		sum += e.bytes
	}
	if sum <= most || want <= 0 {
		return 0
	}
	spared := make(map[string]bool, len(kept))
	for k := range kept {
		if file, err := docFile(kindKeep, string(k)); err == nil {
			spared[file] = true
		}
	}
	for i, e := range all {
		if freed >= want || sum-freed <= most {
			break
		}
		if e.bytes == 0 || e.kind == Lasting || slices.Contains(saidOfFiles, e.kind) || spared[e.file] || strings.HasPrefix(e.file, privdir.TempPrefix) {
			continue
		}
		d, err := s.root.Sub(e.kind)
		if err != nil {
			continue
		}
		if d.Remove(e.file) == nil {
			freed += e.bytes
			all[i].bytes = 0
		}
		d.Close()
	}
	return freed
}

// sweepDocs removes what a killed process left half written.
func (s *documents) sweepDocs() {
	kinds, _ := s.root.Names()
	for _, kind := range kinds {
		if d, err := s.root.Sub(kind); err == nil {
			d.Sweep()
			d.Close()
		}
	}
}

func readDocName(d privdir.Dir, file string) (string, error) {
	f, err := d.OpenFile(file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, docHead+maxDocName)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF {
		return "", errors.Join(errDocDamaged, err)
	}
	return parseDocName(b[:n])
}

func readDoc(d privdir.Dir, file string) (name string, data []byte, err error) {
	f, err := d.OpenFile(file, unix.O_RDONLY)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, docHead+maxDocName+MaxDoc+1))
	if errors.Is(err, unix.EIO) {
		return "", nil, errDocDamaged
	}
	if err != nil {
		return "", nil, err
	}
	return parseDoc(b)
}
