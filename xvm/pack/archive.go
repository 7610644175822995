package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// archiveWriter writes a tar archive member by member. Headers are made by
// archive/tar; content goes to w itself, so that the kernel may copy it.
type archiveWriter struct {
	w    io.Writer
	time time.Time
	n    int64 // bytes written
}

// header is the header of a member, extended ones included.
func header(name string, size int64, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: at.UTC().Truncate(time.Second)}
	if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
		return nil, fmt.Errorf("member %q: %w", name, err)
	}
	return b.Bytes(), nil
}

// member writes a member.
func (a *archiveWriter) member(p part) error {
	h, err := header(p.name, p.size, a.time)
	if err != nil {
		return err
	}
	if err := a.write(bytes.NewReader(h), int64(len(h))); err != nil {
		return err
	}
	if err := a.write(p.content, p.size); err != nil {
		return err
	}
	return a.write(bytes.NewReader(make([]byte, padding(p.size))), padding(p.size))
}

func (a *archiveWriter) write(r io.Reader, n int64) error {
	k, err := io.Copy(a.w, io.LimitReader(r, n))
	a.n += k
	if err == nil && k < n {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

// end writes the mark of the end.
func (a *archiveWriter) end() error {
	return a.write(bytes.NewReader(make([]byte, 1024)), 1024)
}

// padding is what follows n bytes of content up to the next header.
func padding(n int64) int64 { return -n & 511 }

// checkNames refuses what readers would hide or refuse: the archive is walked
// as it would be with all its members empty.
func checkNames(names []string) error {
	var b bytes.Buffer
	a := &archiveWriter{w: &b, time: time.Unix(0, 0)}
	for _, name := range names {
		if err := a.member(inMemory(name, nil)); err != nil {
			return err
		}
	}
	if err := a.end(); err != nil {
		return err
	}
	index, err := xvm.Walk(context.Background(), memory(b.Bytes()), int64(b.Len()), xvm.Limits{})
	if err != nil {
		return err
	}
	for _, h := range index.Hidden {
		return fmt.Errorf("%q cannot be in a package: %s", h.Name, h.Reason)
	}
	if len(index.Members) != len(names) {
		return fmt.Errorf("%d of %d names cannot be in a package", len(names)-len(index.Members), len(names))
	}
	return nil
}

// memory is an archive in memory.
type memory []byte

func (m memory) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

// part is a member to be written, with its sums in hexadecimal.
type part struct {
	name         string
	size         int64
	content      io.Reader
	sha1, sha256 string
}

func inMemory(name string, content []byte) part {
	s1, s256 := sha1.Sum(content), sha256.Sum256(content)
	return part{name, int64(len(content)), bytes.NewReader(content), hex.EncodeToString(s1[:]), hex.EncodeToString(s256[:])}
}

// listing is an archive with a manifest of its parts.
type listing struct {
	time     time.Time
	manifest []byte // how the manifest begins
	parts    []part // the manifest and the signatures stand behind the first
	sign     Sign   // nil: nothing is signed
	signed   []text // is signed as well as the manifest
}

// text is something to be signed.
type text struct {
	signature string // its name
	content   []byte
}

// write writes the archive, and returns how many bytes it has.
func (l *listing) write(ctx context.Context, w io.Writer) (int64, error) {
	m := l.manifest
	for _, p := range l.parts {
		m = xvm.AppendGNU(m, sums.Sum{Algo: sums.SHA1, Hex: p.sha1}, p.name)
		m = xvm.AppendTag(m, sums.Sum{Algo: sums.SHA256, Hex: p.sha256}, p.name)
	}
	parts := []part{l.parts[0], inMemory(xvm.ManifestName, m)}
	for _, t := range append([]text{{xvm.ManifestSignatureName, m}}, l.signed...) {
		if l.sign == nil {
			break
		}
		signature, err := l.sign(ctx, bytes.Clone(t.content), l.time)
		if err != nil {
			return 0, fmt.Errorf("sign: %w", err)
		}
		parts = append(parts, inMemory(t.signature, signature))
	}
	a := &archiveWriter{w: w, time: l.time}
	for _, p := range append(parts, l.parts[1:]...) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		if err := a.member(p); err != nil {
			return 0, err
		}
	}
	err := a.end()
	return a.n, err
}
