package pack

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
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

// metaMax bounds what is read into memory of a file that describes the others.
const metaMax = 4 << 20

// isMeta tells which members describe the others. They have no blocks.
func isMeta(m xvm.Member) bool {
	if m.Size > metaMax || m.Segments != nil {
		return false
	}
	switch strings.ToLower(path.Ext(m.Name)) {
	case ".xml", ".txt", ".asc", ".sig", ".mf", ".ovf", ".cert":
		return true
	}
	return false
}

type checker struct {
	o       CheckOptions
	archive Archive
	size    int64
	index   *xvm.Index
	byName  map[string]*xvm.Member
	plain   map[string]bool // plain names met so far
	report  *Report

	manifestName string
	manifest     *xvm.Manifest       // nil: there is none
	list         *xvm.BlockList      // of the package, else of the sidecar; nil: there is none
	sidecar      map[string][32]byte // SHA-256 of the files, by the sidecar that is used; nil: none is
	xva          *xvaCheck           // nil: it has no disks in chunks

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
		o: o, archive: a, size: size, byName: make(map[string]*xvm.Member), plain: make(map[string]bool),
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
	if c.index.Root != "" {
		c.report.warn("its files are below %q in the archive, which counts as the package's root", c.index.Root)
	}
	for _, h := range c.index.Hidden {
		c.report.warn("%s is not shown: %s", h.Name, h.Reason)
	}
	if c.index.Truncated != "" {
		c.report.fault("the archive is not whole: %s", c.index.Truncated)
	}
	if err := c.readManifest(ctx); err != nil {
		return err
	}
	if err := c.signatures(ctx); err != nil {
		return err
	}
	if err := c.readList(ctx); err != nil {
		return err
	}
	description, err := c.small(ctx, xvm.XVAName)
	if err != nil {
		return err
	}
	if err := c.xvaDisks(description); err != nil {
		c.report.fault("%v", err)
	}
	if err := c.pass(ctx); err != nil {
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

// ReadManifest reads the manifest of an archive; nil: it has none.
func ReadManifest(ctx context.Context, a xvm.ReaderAt, x *xvm.Index) (*xvm.Manifest, error) {
	m := manifestMember(x)
	if m == nil {
		return nil, nil
	}
	b, err := readSmall(ctx, a, m)
	if err != nil {
		return nil, err
	}
	return xvm.ParseManifest(m.Name, b)
}

// manifestMember is manifest.txt, or the .mf of an OVA; nil: there is none.
func manifestMember(x *xvm.Index) *xvm.Member {
	for i := range x.Members {
		if x.Members[i].Name == ManifestName {
			return &x.Members[i]
		}
	}
	for i := range x.Members {
		if name := x.Members[i].Name; strings.HasSuffix(name, ".mf") && !strings.Contains(name, "/") {
			return &x.Members[i]
		}
	}
	return nil
}

// readSmall reads a member into memory.
func readSmall(ctx context.Context, a xvm.ReaderAt, m *xvm.Member) ([]byte, error) {
	if m.Size > metaMax || m.Segments != nil {
		return nil, &tooLarge{m.Name}
	}
	b := make([]byte, m.Size)
	if n, err := a.ReadAt(ctx, b, m.Offset); err != nil && !(errors.Is(err, io.EOF) && n == len(b)) {
		return nil, fmt.Errorf("read %s: %w", m.Name, err)
	}
	return b, nil
}

type tooLarge struct{ name string }

func (e *tooLarge) Error() string { return fmt.Sprintf("%s is larger than %d bytes", e.name, metaMax) }

// small reads a member into memory; nil if there is none of that name.
func (c *checker) small(ctx context.Context, name string) ([]byte, error) {
	m := c.byName[name]
	if m == nil {
		return nil, nil
	}
	b, err := readSmall(ctx, c.archive, m)
	if large := (*tooLarge)(nil); errors.As(err, &large) {
		c.report.fault("%v", err)
		return nil, nil
	}
	return b, err
}

func (c *checker) readManifest(ctx context.Context) error {
	c.manifestName = ManifestName
	if m := manifestMember(c.index); m != nil {
		c.manifestName = m.Name
	}
	b, err := c.small(ctx, c.manifestName)
	if b == nil || err != nil {
		c.report.warn("there is no manifest")
		return err
	}
	if c.manifest, err = xvm.ParseManifest(c.manifestName, b); err != nil {
		c.report.fault("%v", err)
		return nil
	}
	c.report.Warnings = append(c.report.Warnings, c.manifest.Warnings()...)
	if id := c.manifest.Release(); id != "" && c.o.Release != "" && id != c.o.Release {
		c.report.fault("%s was made for the release %q, this is %q", c.manifestName, id, c.o.Release)
	}
	for _, name := range c.manifest.Names() {
		if c.byName[name] == nil && !slices.ContainsFunc(c.index.Members, func(m xvm.Member) bool {
			_, plain := seekable.PlainName(m.Name)
			return plain == name
		}) {
			if here, ok := strings.CutPrefix(name, path.Base(c.index.Root)+"/"); ok && c.byName[here] != nil {
				c.report.fault("the manifest lists %s, but its names are relative to where it is: there it is %s", name, here)
				continue
			}
			c.report.fault("%s is missing: the manifest lists it", name)
		}
	}
	return nil
}

// description is the member that describes the machine.
func (c *checker) description() string {
	if c.byName["xvm.xml"] == nil && c.byName["description.xml"] != nil {
		return "description.xml"
	}
	return "xvm.xml"
}

func (c *checker) signatures(ctx context.Context) error {
	signed := []struct {
		name, signature string
		verdict         *Signature
	}{
		{c.manifestName, ManifestSignatureName, &c.report.Manifest},
		{c.description(), DescriptionSignatureName, &c.report.Description},
	}
	for _, s := range signed {
		content, err := c.small(ctx, s.name)
		if err != nil {
			return err
		}
		signature, err := c.small(ctx, s.signature)
		if err != nil {
			return err
		}
		*s.verdict = c.verify(s.name, content, s.signature, signature)
		if v := s.verdict; v.State == "good" && checkArmor(signature) != nil {
			c.report.fault("%s: %v, though the signature is good", s.signature, checkArmor(signature))
		}
	}
	c.useSidecar()
	for _, s := range signed {
		switch v := s.verdict; {
		case v.State == "bad" && c.vouched():
			c.report.warn("%s: %s; the sidecar vouches for the package", s.signature, v.Reason)
		case v.State == "bad":
			c.report.fault("%s: %s", s.signature, v.Reason)
		case s.verdict == &c.report.Description && c.byName[s.name] == nil:
			// As with an OVA: its descriptor is a file that the manifest lists.
		case v.State == "missing" && c.o.RequireSigned && !c.vouched():
			c.report.fault("%s is not signed: %s", s.name, v.Reason)
		}
	}
	return nil
}

func (c *checker) verify(name string, signed []byte, signatureName string, signature []byte) Signature {
	switch {
	case signed == nil:
		return Signature{State: "missing", Reason: "there is no " + name}
	case signature == nil:
		return Signature{State: "missing", Reason: "there is no " + signatureName}
	case c.o.Keyring == nil:
		return Signature{State: "unchecked", Reason: "no keyring is given"}
	}
	v, err := c.o.Keyring.Verify(signed, signature, c.o.Now)
	if err != nil {
		return Signature{State: "bad", Reason: err.Error()}
	}
	return Signature{State: "good", Signer: v.Signer, Key: v.KeyID, Time: v.Time}
}

// signed tells whether a trusted key signed the package.
func (c *checker) signed() bool {
	return c.report.Manifest.State == "good" && (c.byName[c.description()] == nil || c.report.Description.State == "good")
}

// listed tells whether the package has a block list of its own.
func (c *checker) listed() bool { return c.byName[xvm.BlockListName] != nil }

// readList reads the package's own block list, if it is what counts. It is
// hashed with all other members later on.
func (c *checker) readList(ctx context.Context) error {
	m := c.byName[xvm.BlockListName]
	if m == nil || m.Segments != nil || c.sidecar != nil || c.collect != nil {
		return nil
	}
	body, err := c.archive.Stream(ctx, m.Offset, m.Stored)
	if err != nil {
		return fmt.Errorf("read %s: %w", m.Name, err)
	}
	defer body.Close()
	list, err := xvm.ParseBlockList(io.LimitReader(body, m.Stored))
	switch {
	case errors.Is(err, xvm.ErrBlockList):
		c.report.fault("%s: %v", m.Name, err)
		return nil
	case err != nil:
		return err
	}
	c.list = list
	for _, image := range list.Images() {
		stored := image.Member
		if stored == "" {
			if c.byName[image.Name] == nil && !c.inflates(image.Name) {
				c.report.fault("%s lists %q, which is not in the archive", m.Name, image.Name)
			}
			continue
		}
		switch in := c.byName[stored]; {
		case in == nil:
			c.report.fault("%s lists %q in %q, which is not in the archive", m.Name, image.Name, stored)
		case in.Size != image.Stored:
			c.report.fault("%s lists blocks of %d bytes in %q, which has %d", m.Name, image.Stored, stored, in.Size)
		}
	}
	return nil
}

// inflates tells whether a member has this plain content.
func (c *checker) inflates(plain string) bool {
	for _, m := range c.index.Members {
		if format, name := seekable.PlainName(m.Name); format != "" && name == plain {
			return true
		}
	}
	return false
}

// pass reads the archive from its beginning to its end.
func (c *checker) pass(ctx context.Context) error {
	body, err := c.archive.Stream(ctx, 0, c.size)
	if err != nil {
		return err
	}
	defer body.Close()
	s := &stream{r: &reader{ctx: ctx, r: body, name: "the archive", left: c.size, told: c.o.Progress}}
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
		if (padding > 0 || !headers) && !allZero(p) {
			i := bytes.IndexFunc(p, func(r rune) bool { return r != 0 })
			c.report.fault("byte %d of the archive belongs to no file and is not zero", at+int64(i))
			return s.skip(to)
		}
		padding -= n
	}
	return nil
}

// conclude joins what was found of the files: a block list proves something if
// it is proven itself, plain content is what its member inflates to, a link is
// what it leads to.
func (c *checker) conclude() {
	list := c.report.file(xvm.BlockListName)
	proven := c.sidecar != nil || list != nil && list.State == Verified
	if c.list != nil && !proven {
		c.report.warn("nothing covers %s, so that it proves nothing", xvm.BlockListName)
	}
	for i := range c.report.Files {
		if f := &c.report.Files[i]; f.listed != "" && proven && c.sidecar == nil {
			f.proof("%s in %s", f.listed, xvm.BlockListName)
		} else if f.listed != "" && proven {
			f.proof("%s", c.sidecarProof(f.listed+" in the sidecar"))
		}
	}
	for i := range c.report.Files {
		f := &c.report.Files[i]
		if f.From == "" {
			continue
		}
		switch from := c.report.file(f.From); {
		case f.State != Corrupt && from.State == Verified:
			f.proof("inflated from %s", f.From)
		case f.State == Verified && from.State == Unverified:
			from.proof("it inflates to %s", f.Name)
		}
	}
	for _, m := range c.index.Members {
		if m.Link == "" {
			continue
		}
		f := FileReport{Name: m.Name, Size: m.Size, State: Unverified, Proofs: []string{}}
		if target := c.report.file(m.Link); target != nil && target.State != Unverified {
			f.State, f.Proofs = target.State, []string{"the same file as " + m.Link}
		}
		c.report.Files = append(c.report.Files, f)
	}
	for i := range c.report.Files {
		f := &c.report.Files[i]
		for _, fault := range f.Faults {
			c.report.fault("%s: %s", f.Name, fault)
		}
		if why := c.unvouched(f); why != "" {
			c.report.fault("%s: %s", f.Name, why)
		}
	}
}

// unvouched says why a mount that requires signatures would not open the file,
// though nothing contradicts it; "": it would, or what is wrong has been told.
func (c *checker) unvouched(f *FileReport) string {
	switch {
	case !c.o.RequireSigned:
		return ""
	case c.vouched() && f.State == Unverified:
		return "no signature covers it"
	case c.vouched(), c.report.Manifest.State != "good":
		return ""
	}
	switch f.Name {
	case c.manifestName, ManifestSignatureName, DescriptionSignatureName, c.description():
		return ""
	}
	if f.From != "" && c.manifest.Unvouched(f.From) == "" {
		return ""
	}
	return c.manifest.Unvouched(f.Name)
}

// wanted are the digests to be made of a member as stored.
func (c *checker) wanted(name string) []*digest {
	var d []*digest
	if c.manifest != nil {
		for _, sum := range c.manifest.Sums(name) {
			if one := newDigest(sum); one != nil {
				d = append(d, one)
			}
		}
	}
	return d
}

// judge compares the sums that the manifest has of a file.
func (c *checker) judge(f *FileReport, digests []*digest) {
	var good []string
	for _, d := range digests {
		if got := d.hex(); got != d.want.Hex {
			f.fault("its %s is %s, the manifest says %s", d.want.Algo, got, d.want.Hex)
		} else {
			good = append(good, d.want.Algo)
		}
	}
	if len(good) > 0 && f.State != Corrupt {
		f.proof("%s in the manifest", strings.Join(good, " and "))
	}
	if c.manifest != nil {
		for _, why := range c.manifest.Unsupported(f.Name) {
			c.report.warn("%s: %s", f.Name, why)
		}
	}
	for _, s := range []struct {
		signed, signature string
		verdict           Signature
	}{
		{c.manifestName, ManifestSignatureName, c.report.Manifest},
		{c.description(), DescriptionSignatureName, c.report.Description},
	} {
		switch {
		case s.verdict.State == "good" && f.Name == s.signed:
			f.proof("%s by %s", s.signature, s.verdict.Signer)
		case s.verdict.State == "good" && f.Name == s.signature:
			f.proof("it is a good signature")
		case s.verdict.State == "bad" && f.Name == s.signature && !c.vouched():
			f.State = Corrupt
		}
	}
}

// collector is what Index finds out beside.
type collector struct {
	blockSize int
	whole     *digest // of the archive
	files     []xvm.SidecarMember
	images    []collectedImage
	points    map[string][]byte
}

type collectedImage struct {
	name      string
	size      int64
	blockSize int
	sums      *blockSums
}

func (c *collector) file(name string, size int64, d *digest) error {
	sum, err := hex.DecodeString(d.hex())
	c.files = append(c.files, xvm.SidecarMember{Name: name, Size: size, SHA256: [32]byte(sum)})
	return err
}
