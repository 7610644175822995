package e2e

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// evil marks every byte run of the forged packages that no trusted key has
// signed; honest marks the others.
const (
	evil   = "EVIL"
	honest = "honest"
)

// offer is what a feed offers as a release.
type offer struct {
	suffix  string // of its address; "": ".xvm"
	content []byte
	sidecar []byte // nil: none
	sound   bool   // all of it is served; else verify finds a fault
}

// forger has the public parts of a package, and no key that is trusted.
type forger struct {
	t                                            testing.TB
	release                                      string
	xml, xmlSig, manifest, manifestSig, disk, os member
	sign                                         func([]byte) []byte // by the publisher; for what is honest
	operator, stranger                           *xvm.Signer
}

const (
	describedXVM    = `<xvm version="1"><name>%[1]s</name><kernel>vmlinuz</kernel><cmdline>%[1]s</cmdline><disk file="disk0.img"/></xvm>`
	describedDomain = `<domain type="kvm"><name>%[1]s</name><memory>65536</memory><os><type>hvm</type><kernel>/vmlinuz</kernel><cmdline>%[1]s</cmdline></os>` +
		`<devices><disk type="file"><source file="disk0.img"/><target dev="vda"/></disk></devices></domain>`
	describedXVA = `<value><struct><member><name>name_label</name><value>` + evil + `</value></member></struct></value>`
)

// sectorDisk is a disk with a boot sector.
func sectorDisk(text string) []byte {
	p := make([]byte, 1<<20)
	copy(p, text)
	copy(p[510:], "\x55\xaa")
	return p
}

// partitionImage begins as ext2 does.
func partitionImage(text string) []byte {
	p := make([]byte, 128<<10)
	copy(p, text)
	copy(p[1080:], "\x53\xef")
	return p
}

// zipped is p as gzip has it.
func zipped(t testing.TB, p []byte) []byte {
	return gzipped(t, func(z *gzip.Writer) { _, _ = z.Write(p) })
}

// publish makes the manifest of the members, which names its release (else one
// package under two names is a replay), and signs it.
func (f *forger) publish(members ...member) {
	f.manifest = member{"manifest.txt", append([]byte("# vmcast-release: "+f.release+"\n"), sha1sums(members...)...)}
	f.manifestSig = member{"mf-signature.asc", f.sign(f.manifest.content)}
}

// but is the package as its publisher made it, without some members.
func (f *forger) but(names ...string) *tarball {
	b := new(tarball)
	for _, m := range []member{f.xml, f.manifest, f.manifestSig, f.xmlSig, f.disk, f.os} {
		if !slices.Contains(names, m.name) {
			b.file(m.name, string(m.content))
		}
	}
	return b
}

// sparse adds a member that is stored sparse, though its map has no hole.
func (b *tarball) sparse(name, content string) *tarball {
	records := paxRecord("GNU.sparse.major", "1") + paxRecord("GNU.sparse.minor", "0") +
		paxRecord("GNU.sparse.name", name) + paxRecord("GNU.sparse.realsize", fmt.Sprint(len(content)))
	b.entry('x', "x", int64(len(records)), records)
	m := fmt.Sprintf("1\n0\n%d\n", len(content))
	return b.file("sparse", m+strings.Repeat("\x00", -len(m)&511)+content)
}

// archiveBytes is a package in memory.
type archiveBytes []byte

func (p archiveBytes) ReadAt(_ context.Context, b []byte, off int64) (int, error) {
	return bytes.NewReader(p).ReadAt(b, off)
}

func (p archiveBytes) Stream(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(bytes.NewReader(p), off, n)), nil
}

// index makes a sidecar; bare names the one file of a package that is no
// archive; by nobody: not signed.
func (f *forger) index(content []byte, bare string, by *xvm.Signer) []byte {
	f.t.Helper()
	o := xvmpack.IndexOptions{TempDir: f.t.TempDir()}
	if o.Bare = bare; by != nil {
		o.Sign = xvmpack.KeySign(by)
	}
	var b bytes.Buffer
	if report, err := xvmpack.Index(f.t.Context(), archiveBytes(content), int64(len(content)), &b, o); err != nil {
		f.t.Fatalf("%v: %+v", err, report)
	}
	return b.Bytes()
}

// forged are packages that a mirror made of an honest one, and what else a feed
// may offer, honest and not.
func forged() map[string]func(f *forger) offer {
	described, domained := fmt.Sprintf(describedXVM, evil), fmt.Sprintf(describedDomain, evil)
	long := described + strings.Repeat("\n", xvm.MaxMeta)
	cases := make(map[string]func(f *forger) offer)
	for name, forge := range map[string]func(f *forger) *tarball{
		"description-sparse":    func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").sparse("description.xml", domained) },
		"description-oversized": func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("description.xml", long) },
		"description-plain":     func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("description.xml", domained) },
		"description-crowded": func(f *forger) *tarball {
			b := f.but("xvm.xml", "signature.asc")
			for i := range 4 {
				b.file(fmt.Sprintf("%d.txt", i), evil+strings.Repeat("\n", xvm.MaxMeta-len(evil)))
			}
			return b.file("description.xml", domained)
		},
		"description-beside": func(f *forger) *tarball { return f.but().sparse("description.xml", domained) },
		"description-linked": func(f *forger) *tarball {
			return f.but("xvm.xml", "signature.asc").file("other.img", domained).link('1', "description.xml", "other.img")
		},
		"description-linked-sparse": func(f *forger) *tarball {
			return f.but("xvm.xml", "signature.asc").sparse("other.img", domained).link('1', "description.xml", "other.img")
		},
		"description-linked-to-disk": func(f *forger) *tarball {
			return f.but("xvm.xml", "signature.asc").link('1', "description.xml", "disk0.img")
		},
		"description-twice": func(f *forger) *tarball {
			return f.but("xvm.xml", "signature.asc").sparse("description.xml", domained).sparse("./description.xml", domained)
		},
		"description-signature-kept": func(f *forger) *tarball { return f.but("xvm.xml").sparse("description.xml", domained) },
		"description-exchanged": func(f *forger) *tarball { // for one that the same key has signed
			sig := f.sign([]byte(domained))
			return f.but("xvm.xml", "signature.asc").file("description.xml", domained).file("signature.asc", string(sig))
		},
		"description-of-another": func(f *forger) *tarball { // which the same key has signed
			f.xml.content = []byte(described)
			f.xmlSig.content = f.sign(f.xml.content)
			return f.but()
		},
		"xvm-sparse":          func(f *forger) *tarball { return f.but("xvm.xml").sparse("xvm.xml", described) },
		"xvm-oversized":       func(f *forger) *tarball { return f.but("xvm.xml").file("xvm.xml", long) },
		"xvm-sparse-unsigned": func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").sparse("xvm.xml", described) },
		"xvm-upper-case":      func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("XVM.XML", described) },
		"xvm-nested": func(f *forger) *tarball {
			return f.but().file("sub/xvm.xml", described).file("sub/signature.asc", evil).file("sub/manifest.txt", evil)
		},
		"ovf":                    func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("box.ovf", evil) },
		"ovf-sparse":             func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").sparse("box.ovf", evil) },
		"ova-xml":                func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("ova.xml", describedXVA) },
		"second-manifest":        func(f *forger) *tarball { return f.but().file("box.mf", evil).file("box.cert", evil) },
		"signature-sparse":       func(f *forger) *tarball { return f.but("signature.asc").sparse("signature.asc", evil) },
		"signature-of-nothing":   func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").file("signature.asc", evil) },
		"signature-sparse-alone": func(f *forger) *tarball { return f.but("xvm.xml", "signature.asc").sparse("signature.asc", evil) },
		"mf-signature-sparse":    func(f *forger) *tarball { return f.but("mf-signature.asc").sparse("mf-signature.asc", evil) },
		"mf-signature-oversized": func(f *forger) *tarball {
			return f.but("mf-signature.asc").file("mf-signature.asc", evil+strings.Repeat("\n", xvm.MaxMeta))
		},
		"manifest-sparse":  func(f *forger) *tarball { return f.but("manifest.txt").sparse("manifest.txt", evil) },
		"notes":            func(f *forger) *tarball { return f.but().file("notes.html", evil) },
		"notes-sparse":     func(f *forger) *tarball { return f.but().sparse("notes.html", evil) },
		"block-list":       func(f *forger) *tarball { return f.but().file("blocks.txt", evil) },
		"profile":          func(f *forger) *tarball { return f.but().file("profile.txt", evil) },
		"image":            func(f *forger) *tarball { return f.but().file("other.img", string(sectorDisk(evil))) },
		"image-compressed": func(f *forger) *tarball { return f.but().file("other.img.gz", string(zipped(f.t, sectorDisk(evil)))) },
		"image-inflated": func(f *forger) *tarball {
			return f.but("disk0.img").file("disk0.img.gz", string(zipped(f.t, sectorDisk(evil))))
		},
		"image-in-chunks": func(f *forger) *tarball {
			return f.but("disk0.img").file("ova.xml", describedXVA).file("Ref:1/00000000", string(sectorDisk(evil)))
		},
		"image-in-chunks-undescribed": func(f *forger) *tarball {
			return f.but("disk0.img", "xvm.xml", "signature.asc").file("ova.xml", describedXVA).file("Ref:1/00000000", string(sectorDisk(evil)))
		},
		"ramdisk": func(f *forger) *tarball { return f.but().file("initrd.img", evil) },
		"partition-unlisted": func(f *forger) *tarball {
			f.publish(f.xml, f.os)
			return f.but("disk0.img").file("imagefile", string(partitionImage(evil)))
		},
		"partition-beside": func(f *forger) *tarball {
			part := member{"imagefile", partitionImage(honest)}
			f.publish(f.os, part)
			return f.but("xvm.xml", "signature.asc", "disk0.img").file(part.name, string(part.content)).file("imagefile2", string(partitionImage(evil)))
		},
	} {
		cases[name] = func(f *forger) offer { return offer{content: forge(f).end()} }
	}
	cases["honest"] = func(f *forger) offer { return offer{content: f.but().end(), sound: true} }
	cases["honest-sparse"] = func(f *forger) offer {
		return offer{content: f.but("disk0.img").sparse("disk0.img", string(f.disk.content)).end(), sound: true}
	}
	cases["honest-gz"] = func(f *forger) offer {
		return offer{suffix: ".xvm.gz", content: zipped(f.t, f.but().end()), sound: true}
	}
	cases["forged-gz"] = func(f *forger) offer {
		return offer{suffix: ".xvm.gz", content: zipped(f.t, f.but("xvm.xml", "signature.asc").sparse("description.xml", domained).end())}
	}
	cases["partition"] = func(f *forger) offer {
		part := member{"imagefile", partitionImage(honest)}
		f.publish(f.os, part)
		return offer{content: f.but("xvm.xml", "signature.asc", "disk0.img").file(part.name, string(part.content)).end(), sound: true}
	}
	cases["bare"] = func(*forger) offer { return offer{suffix: ".img", content: sectorDisk(evil)} }
	cases["bare-gz"] = func(f *forger) offer { return offer{suffix: ".img.gz", content: zipped(f.t, sectorDisk(evil))} }
	for name, by := range map[string]func(f *forger) *xvm.Signer{
		"operator": func(f *forger) *xvm.Signer { return f.operator },
		"stranger": func(f *forger) *xvm.Signer { return f.stranger },
		"nobody":   func(f *forger) *xvm.Signer { return nil },
	} {
		mark, sound := evil, name == "operator"
		if sound {
			mark = honest
		}
		cases["bare-sidecar-"+name] = func(f *forger) offer {
			p := sectorDisk(mark)
			return offer{suffix: ".img", content: p, sidecar: f.index(p, f.release+".img", by(f)), sound: sound}
		}
		cases["bare-gz-sidecar-"+name] = func(f *forger) offer {
			p := zipped(f.t, sectorDisk(mark))
			return offer{suffix: ".img.gz", content: p, sidecar: f.index(p, f.release+".img.gz", by(f)), sound: sound}
		}
		cases["unsigned-sidecar-"+name] = func(f *forger) offer {
			f.disk.content = sectorDisk(mark)
			f.xml.content = fmt.Appendf(nil, describedXVM, mark)
			f.publish(f.xml, f.disk, f.os)
			p := f.but("mf-signature.asc", "signature.asc").end()
			return offer{content: p, sidecar: f.index(p, "", by(f)), sound: sound}
		}
	}
	cases["sidecar-of-another"] = func(f *forger) offer {
		return offer{suffix: ".img", content: sectorDisk(evil), sidecar: f.index(sectorDisk(honest)[:1<<19], f.release+".img", f.operator)}
	}
	cases["sidecar-of-another-description"] = func(f *forger) offer {
		f.publish(f.xml, f.disk, f.os)
		was := f.but("mf-signature.asc", "signature.asc").end()
		f.xml.content = bytes.ReplaceAll(f.xml.content, []byte(honest), []byte(evil+"##"))
		return offer{content: f.but("mf-signature.asc", "signature.asc").end(), sidecar: f.index(was, "", f.operator)}
	}
	return cases
}

// TestS14ForgedPackages: where signatures are required, nothing is served and no
// value is used that no trusted key vouches for, whatever it is called and
// however it is stored. The mount, list, verify and config agree.
func TestS14ForgedPackages(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ring := t.TempDir()
	newSigner := func(name string, trusted bool) *xvm.Signer {
		key, err := xvm.NewSigner(name, name+"@example.org", made)
		if err != nil {
			t.Fatal(err)
		}
		public, err := key.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		if trusted {
			if err := os.WriteFile(filepath.Join(ring, name+".asc"), public, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return key
	}
	publisher := newSigner("publisher", true)
	operator, stranger := newSigner("operator", true), newSigner("stranger", false)
	sign := func(p []byte) []byte {
		sig, err := publisher.Sign(p, made)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	sound, side := make(map[string]bool), t.TempDir()
	for name, forge := range forged() {
		f := &forger{
			t: t, release: name, sign: sign, operator: operator, stranger: stranger,
			xml: member{"xvm.xml", fmt.Appendf(nil, describedXVM, honest)}, disk: member{"disk0.img", sectorDisk(honest)}, os: member{"vmlinuz", noise(5000, 1)},
		}
		f.publish(f.xml, f.disk, f.os)
		f.xmlSig = member{"signature.asc", sign(f.xml.content)}
		o := forge(f)
		sound[name] = o.sound
		path := name + cmp.Or(o.suffix, ".xvm")
		w.serveAt(name, "/"+path, o.content)
		if o.sidecar != nil {
			if err := os.WriteFile(filepath.Join(side, path+".sidecar"), o.sidecar, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.opts = append(w.opts, "keyring="+ring, "sidecar="+side, "soft", "complete=off")
	w.mount()
	out, err := exec.Command(binary, "list", "--json", "-o", w.options(), w.feed).Output()
	if err != nil && exitCode(err) != exitFailed {
		t.Fatal(err)
	}
	var rows []struct {
		Name, State string
		Images      []struct{ Name, Refused string }
	}
	if err := json.Unmarshal(out, &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != len(sound) {
		t.Fatalf("%d releases are listed, of %d", len(rows), len(sound))
	}
	for _, row := range rows {
		t.Run(row.Name, func(t *testing.T) {
			open, refused := w.served(t, row.Name)
			listRefuses := make(map[string]bool)
			for _, im := range row.Images {
				listRefuses[im.Name] = im.Refused != "" || row.State == "refused"
			}
			for _, name := range open {
				if listRefuses[name] {
					t.Errorf("%s is served, and refused in the list", name)
				}
			}
			for _, name := range refused {
				if refuses, image := listRefuses[name]; image && !refuses {
					t.Errorf("%s is refused, and not in the list", name)
				}
			}
			sound := sound[row.Name]
			if sound && (len(refused) > 0 || len(open) == 0 || row.State != "indexed") {
				t.Errorf("a sound release is %q; refused are %q", row.State, refused)
			}
			out, err := exec.Command(binary, "verify", "--json", "-o", w.options(), w.feed, row.Name).Output()
			if sound != (err == nil) || !sound && exitCode(err) != exitFailed {
				t.Errorf("verify: %v\n%s", err, out)
			}
			verdict := verdictOf(t, out)
			if (verdict.Refused != "" || verdict.Error != "") != (row.State != "indexed") {
				t.Errorf("it is %q in the list; verify says %q, %q", row.State, verdict.Error, verdict.Refused)
			}
			if row.State == "rejected" && len(open)+len(refused) > 0 {
				t.Errorf("it is rejected, and has files: %q", append(open, refused...))
			}
			for _, f := range verdict.Files {
				if row.State != "rejected" && (f.Refused != "" || verdict.Refused != "") != slices.Contains(refused, f.Name) {
					t.Errorf("%s: verify says %q; the mount refuses %q", f.Name, f.Refused, refused)
				}
			}
			for _, hypervisor := range []string{"qemu", "xl", "libvirt"} {
				out, err := w.run("config", hypervisor, w.path(row.Name))
				if strings.Contains(out, evil) {
					t.Errorf("config %s: %v\n%s", hypervisor, err, out)
				}
				if strings.HasPrefix(row.Name, honest) && (err != nil || !strings.Contains(out, honest)) {
					t.Errorf("config %s: %v\n%s", hypervisor, err, out)
				}
			}
		})
	}
}

// packageVerdict is what verify --json says of a package.
type packageVerdict struct {
	Error, Refused string
	Faults         []string
	Files          []struct{ Name, Refused string }
}

func verdictOf(t *testing.T, out []byte) packageVerdict {
	t.Helper()
	var all []packageVerdict
	if err := json.Unmarshal(out, &all); err != nil || len(all) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	return all[0]
}

// served reads every file of a release, and tells which are served and which
// are refused. What is served must be nobody's forgery.
func (w *world) served(t *testing.T, release string) (open, refused []string) {
	t.Helper()
	root := w.path(release)
	_, _ = os.Stat(filepath.Join(root, "xvm.xml")) // a packed archive is listed once a name in it was asked for
	read := func(path string) {
		name, _ := filepath.Rel(root, path)
		if slices.Contains(open, name) || slices.Contains(refused, name) {
			return
		}
		content, err := os.ReadFile(path)
		switch {
		case errors.Is(err, syscall.EACCES):
			refused = append(refused, name)
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			open = append(open, name)
			if bytes.Contains(content, []byte(evil)) {
				t.Errorf("%s is served: %.60q", name, content)
			}
		}
	}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // the release is rejected as a whole
		}
		if d.Type().IsRegular() {
			read(path)
			if plain, packed := strings.CutSuffix(path, ".img.gz"); packed { // nothing is inflated of a refused release, so it is not listed
				read(plain + ".img")
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return open, refused
}
