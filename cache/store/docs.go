package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// MaxDoc bounds a document, in bytes.
	MaxDoc = 64 << 20

	maxDocName = 4096
	docMagic   = "VMCDOC1\n"
	docHead    = 8 + 4 + 8 + 4 // magic, length of name, length of data, checksum
)

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

// PutDoc stores a small document, whole or not at all, and durably. kind is a word of lower-case letters, digits and
// hyphens; name is any string of at most 4096 bytes: it is hashed, never a path. Documents are not evicted.
func (s *Store) PutDoc(kind, name string, data []byte) error {
	file, err := docFile(kind, name)
	if err != nil {
		return err
	}
	if len(data) > MaxDoc {
		return fmt.Errorf("store %s document of %d bytes: more than %d", kind, len(data), MaxDoc)
	}
	b := make([]byte, docHead, docHead+len(name)+len(data))
	copy(b, docMagic)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(name)))
	binary.LittleEndian.PutUint64(b[12:], uint64(len(data)))
	b = append(append(b, name...), data...)
	binary.LittleEndian.PutUint32(b[20:], docSum(b))
	d, err := s.docs.sub(kind)
	if err != nil {
		return fmt.Errorf("store %s document: %w", kind, full(err))
	}
	defer d.f.Close()
	f, err := d.replace(file, b)
	if err != nil {
		return fmt.Errorf("store %s document: %w", kind, full(err))
	}
	return f.Close()
}

// GetDoc returns a document. One that is not there, or is damaged, is [fs.ErrNotExist].
func (s *Store) GetDoc(kind, name string) ([]byte, error) {
	file, err := docFile(kind, name)
	if err != nil {
		return nil, err
	}
	d, err := s.docs.open(kind, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, fmt.Errorf("read %s document: %w", kind, err)
	}
	defer d.Close()
	got, data, err := readDoc(dir{d}, file)
	if err == nil && got != name {
		err = fs.ErrNotExist
	}
	if err != nil {
		if errors.Is(err, errDocDamaged) {
			s.warn("damaged document in the cache is ignored", "kind", kind, "name", name)
		}
		return nil, fmt.Errorf("read %s document: %w", kind, err)
	}
	return data, nil
}

// DeleteDoc removes a document; one that is not there is no error.
func (s *Store) DeleteDoc(kind, name string) error {
	file, err := docFile(kind, name)
	if err != nil {
		return err
	}
	d, err := s.docs.open(kind, unix.O_RDONLY|unix.O_DIRECTORY)
	if err == nil {
		defer d.Close()
		err = dir{d}.remove(file)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete %s document: %w", kind, err)
	}
	return nil
}

// ListDocs returns the names of the documents of a kind, in order. Damaged ones are left out.
func (s *Store) ListDocs(kind string) ([]string, error) {
	if _, err := docFile(kind, "-"); err != nil {
		return nil, err
	}
	d, err := s.docs.open(kind, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s documents: %w", kind, err)
	}
	defer d.Close()
	files, err := dir{d}.names()
	if err != nil {
		return nil, fmt.Errorf("list %s documents: %w", kind, err)
	}
	var names []string
	for _, f := range files {
		if strings.HasPrefix(f, tempPrefix) {
			continue
		}
		name, _, err := readDoc(dir{d}, f)
		if want, err2 := docFile(kind, name); err == nil && err2 == nil && want == f {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// DocNames is ListDocs without reading the documents to their ends: some may be damaged.
func (s *Store) DocNames(kind string) ([]string, error) {
	if _, err := docFile(kind, "-"); err != nil {
		return nil, err
	}
	f, err := s.docs.open(kind, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list %s documents: %w", kind, err)
	}
	defer f.Close()
	d := dir{f}
	files, err := d.names()
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

func readDocName(d dir, file string) (string, error) {
	f, err := d.open(file, unix.O_RDONLY)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b := make([]byte, docHead+maxDocName)
	n, err := io.ReadFull(f, b)
	if b = b[:n]; n < docHead || !bytes.HasPrefix(b, []byte(docMagic)) {
		return "", errors.Join(errDocDamaged, err)
	}
	length := binary.LittleEndian.Uint32(b[8:])
	if b = b[docHead:]; uint64(length) > uint64(len(b)) {
		return "", errDocDamaged
	}
	return string(b[:length]), nil
}

// HasDoc tells whether there is such a document, which may be damaged. It costs one stat.
func (s *Store) HasDoc(kind, name string) bool {
	file, err := docFile(kind, name)
	if err != nil {
		return false
	}
	f, err := s.docs.open(kind, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return false
	}
	defer f.Close()
	_, err = dir{f}.stat(file)
	return err == nil
}

var errDocDamaged = fmt.Errorf("document is damaged: %w", fs.ErrNotExist)

func readDoc(d dir, file string) (name string, data []byte, err error) {
	f, err := d.open(file, unix.O_RDONLY)
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

func parseDoc(b []byte) (name string, data []byte, err error) {
	if len(b) < docHead || !bytes.HasPrefix(b, []byte(docMagic)) {
		return "", nil, errDocDamaged
	}
	n, m := uint64(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint64(b[12:])
	rest := uint64(len(b) - docHead)
	if n > maxDocName || m > MaxDoc || n+m != rest || docSum(b) != binary.LittleEndian.Uint32(b[20:]) {
		return "", nil, errDocDamaged
	}
	b = b[docHead:]
	return string(b[:n]), b[n:], nil
}

// docSum is the checksum of all but the four bytes that hold it.
func docSum(b []byte) uint32 {
	return checksumMore(checksum(b[:20]), b[24:])
}
