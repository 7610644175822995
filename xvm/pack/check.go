package pack

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/sums"
)

// Archive is a package to be checked.
type Archive interface {
	xvm.ReaderAt // for the tar walk, and small files
	// Stream returns n bytes from off; fewer only with an error.
	Stream(ctx context.Context, off, n int64) (io.ReadCloser, error)
}

// CheckOptions say how to check.
type CheckOptions struct {
	Keyring       *xvm.Keyring // nil: signatures are not checked
	RequireSigned bool         // what no trusted key vouches for is a fault
	Release       string       // guid under which a feed offers the package; "": it stands for itself
	Sidecar       *xvm.Sidecar // to compare with as well; nil: none
	Bare          string       // "": it is an archive; else it is the one file of this name
	SHA256        string       // of that file, as the feed gives it; "": it does not
	Now           time.Time    // zero: now
	Workers       int          // 0: one for each core
	Progress      func(done int64)
}

// Check reads a package whole. The error is one of reading, or that it is no
// package ([xvm.TarError]); whatever is wrong with the content is in the report.
func Check(ctx context.Context, a Archive, size int64, o CheckOptions) (*Report, error) {
	c := newChecker(a, size, o)
	if err := c.run(ctx); err != nil {
		return nil, err
	}
	return c.report, nil
}

type checker struct {
	o       CheckOptions
	archive Archive
	size    int64
	index   *xvm.Index
	byName  map[string]*xvm.Member
	plain   map[string]*xvm.Member // what each plain content is inflated from
	report  *Report

	small    map[string][]byte // the members that were read whole
	verdict  *xvm.Verdict
	manifest *xvm.Manifest       // nil: there is none
	list     *xvm.BlockList      // of the package, else of the sidecar; nil: there is none
	sidecar  map[string][32]byte // SHA-256 of the files, by the sidecar that is used; nil: none is
	xva      *xvaCheck           // nil: it has no disks in chunks

	collect *collector // of Index; nil: nothing is collected
}

func newChecker(a Archive, size int64, o CheckOptions) *checker {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if o.Progress == nil {
		o.Progress = func(int64) {}
	}
	return &checker{
		o: o, archive: a, size: size, byName: make(map[string]*xvm.Member),
		report: &Report{Size: size, Files: []FileReport{}, Faults: []string{}},
	}
}

func (c *checker) run(ctx context.Context) error {
	var err error
	if c.o.Bare != "" {
		c.index = xvm.BareIndex(c.o.Bare, c.size)
	} else if c.index, err = Walk(ctx, c.archive, c.size); err != nil {
		return err
	}
	for i := range c.index.Members {
		c.byName[c.index.Members[i].Name] = &c.index.Members[i]
	}
	c.plain = c.index.Inflated()
	if c.index.Root != "" {
		c.report.warn("its files are below %q in the archive, which counts as the package's root", c.index.Root)
	}
	for _, h := range c.index.Hidden {
		c.report.warn("%s is not shown: %s", h.Name, h.Reason)
	}
	if c.index.Truncated != "" {
		c.report.fault("the archive is not whole: %s", c.index.Truncated)
	}
	if c.small, err = xvm.ReadSmall(ctx, c.archive, c.index); err != nil {
		return err
	}
	c.judgePackage()
	if err := c.readList(ctx); err != nil {
		return err
	}
	c.xvaDisks()
	if err := c.pass(ctx); err != nil {
		return err
	}
	if err := c.links(ctx); err != nil {
		return err
	}
	if c.xva != nil {
		if err := c.xva.finish(c.report); err != nil {
			return err
		}
	}
	c.conclude()
	return nil
}

// Walk is [xvm.Walk] with the limits for this kind of archive.
func Walk(ctx context.Context, a xvm.ReaderAt, size int64) (*xvm.Index, error) {
	head := make([]byte, min(max(size, 0), 512))
	if n, err := a.ReadAt(ctx, head, 0); n < len(head) {
		return nil, err
	}
	return xvm.Walk(ctx, a, size, xvm.LimitsFor(head))
}

// pass reads the archive from its beginning to its end.
func (c *checker) pass(ctx context.Context) error {
	body, err := c.archive.Stream(ctx, 0, c.size)
	if err != nil {
		return err
	}
	defer body.Close()
	s := &stream{r: &reader{ctx: ctx, r: body, name: "the archive", left: c.size, progress: c.o.Progress}}
	if c.collect != nil {
		s.tee = c.collect.whole
	}
	rest := int64(0) // bytes of padding behind the last member
	for i := range c.index.Members {
		m := &c.index.Members[i]
		if m.Link != "" {
			continue
		}
		if err := c.between(s, rest, m.Offset, true); err != nil {
			return err
		}
		if err := c.member(ctx, s, m); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		if err := s.skip(m.Offset + m.Stored); err != nil {
			return err
		}
		rest = padding(m.Stored)
	}
	return c.between(s, rest, c.size, c.list == nil || len(c.index.Hidden) > 0)
}

// linkBytes is how much more than the archive has is read to check hard links.
const linkBytes = 64 << 20

// links checks hard links as the files that they are: the manifest may have other sums
// of them, and their names may say that they are compressed. A package with so many
// that it would be read over and over is told of.
func (c *checker) links(ctx context.Context) error {
	left := c.size + linkBytes
	for i := range c.index.Members {
		m := &c.index.Members[i]
		if m.Link == "" || c.verdict.IsChunk(m.Name) {
			continue
		}
		if c.collect != nil { // which has the sums of what they lead to
			c.report.Files = append(c.report.Files, FileReport{Name: m.Name, Size: m.Size, State: Unverified, Proofs: []string{}})
			continue
		}
		if left -= m.Stored; left < 0 {
			c.report.fault("%s and further hard links are not checked: there are too many", m.Name)
			return nil
		}
		body, err := c.archive.Stream(ctx, m.Offset, m.Stored)
		if err != nil {
			return err
		}
		s := &stream{r: &reader{ctx: ctx, r: body, name: "the archive", left: m.Stored, progress: func(int64) {}}, pos: m.Offset}
		err = c.member(ctx, s, m)
		body.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	return nil
}

// between reads what lies between two members: padding, which must be zeros,
// and then headers, or, behind the last, zeros only. headers tells whether
// there may be any.
func (c *checker) between(s *stream, padding, to int64, headers bool) error {
	for s.pos < to {
		at := s.pos
		n := min(to-at, chunk)
		if padding > 0 {
			n = min(n, padding)
		}
		p := make([]byte, n)
		if _, err := io.ReadFull(s, p); err != nil {
			return err
		}
		if (padding > 0 || !headers) && !sums.Zero(p) {
			i := bytes.IndexFunc(p, func(r rune) bool { return r != 0 })
			c.report.fault("byte %d of the archive belongs to no file and is not zero", at+int64(i))
			return s.skip(to)
		}
		padding -= n
	}
	return nil
}
