package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/xvm"
)

// evil marks every byte run of the forged packages that no key has signed.
const evil = "EVIL"

// forger has the public parts of an honest package, and no key.
type forger struct {
	xml, xmlSig, manifest, manifestSig, disk member
}

// honest is the package as its publisher made it; but leaves members out.
func (f *forger) honest(but ...string) *tarball {
	b := new(tarball)
	for _, m := range []member{f.xml, f.manifest, f.manifestSig, f.xmlSig, f.disk} {
		if !strings.Contains(" "+strings.Join(but, " ")+" ", " "+m.name+" ") {
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

// TestS14ForgedPackages: where signatures are required, nothing is served and no
// value is used that no trusted key vouches for, whatever it is called and
// however it is stored. The mount, list, verify and config agree.
func TestS14ForgedPackages(t *testing.T) {
	t.Parallel()
	w := bareWorld(t)
	key, err := xvm.NewSigner("publisher", "publisher@example.org", time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "publisher.asc")
	if err := os.WriteFile(ring, public, 0o600); err != nil {
		t.Fatal(err)
	}
	sign := func(p []byte) []byte {
		sig, err := key.Sign(p, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	boot := func(text string) []byte {
		p := make([]byte, 1<<20)
		copy(p, text)
		copy(p[510:], "\x55\xaa")
		return p
	}
	const describe = `<xvm version="1"><name>%[1]s</name><kernel>vmlinuz</kernel><cmdline>%[1]s</cmdline><disk file="disk0.img"/></xvm>`
	const domain = `<domain type="kvm"><name>%[1]s</name><memory>65536</memory><os><type>hvm</type><kernel>/vmlinuz</kernel><cmdline>%[1]s</cmdline></os>` +
		`<devices><disk type="file"><source file="disk0.img"/><target dev="vda"/></disk></devices></domain>`
	kernel := member{"vmlinuz", noise(5000, 1)}
	forge := func(release string) *forger { // the manifest names its release, else all would be replays of one
		f := &forger{xml: member{"xvm.xml", fmt.Appendf(nil, describe, "honest")}, disk: member{"disk0.img", boot("honest")}}
		f.manifest = member{"manifest.txt", append([]byte("# vmcast-release: "+release+"\n"), sha1sums(f.xml, f.disk, kernel)...)}
		f.manifestSig = member{"mf-signature.asc", sign(f.manifest.content)}
		f.xmlSig = member{"signature.asc", sign(f.xml.content)}
		return f
	}
	described, domained := fmt.Sprintf(describe, evil), fmt.Sprintf(domain, evil)
	long := described + strings.Repeat("\n", xvm.MaxMeta)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(boot(evil))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	ovaXML := `<value><struct><member><name>name_label</name><value>` + evil + `</value></member></struct></value>`
	cases := map[string]func(f *forger) *tarball{
		"honest": func(f *forger) *tarball { return f.honest().file(kernel.name, string(kernel.content)) },
		"description-sparse": func(f *forger) *tarball {
			return f.honest("xvm.xml", "signature.asc").sparse("description.xml", domained)
		},
		"description-oversized": func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").file("description.xml", long) },
		"description-plain": func(f *forger) *tarball {
			return f.honest("xvm.xml", "signature.asc").file("description.xml", domained)
		},
		"description-crowded": func(f *forger) *tarball {
			b := f.honest("xvm.xml", "signature.asc")
			for i := range 4 {
				b.file(fmt.Sprintf("%d.txt", i), evil+strings.Repeat("\n", xvm.MaxMeta-len(evil)))
			}
			return b.file("description.xml", domained)
		},
		"description-beside": func(f *forger) *tarball { return f.honest().sparse("description.xml", domained) },
		"description-linked": func(f *forger) *tarball {
			return f.honest("xvm.xml", "signature.asc").file("other.img", domained).link('1', "description.xml", "other.img")
		},
		"description-linked-sparse": func(f *forger) *tarball {
			return f.honest("xvm.xml", "signature.asc").sparse("other.img", domained).link('1', "description.xml", "other.img")
		},
		"description-twice": func(f *forger) *tarball {
			return f.honest("xvm.xml", "signature.asc").sparse("description.xml", domained).sparse("./description.xml", domained)
		},
		"description-signature-kept": func(f *forger) *tarball { return f.honest("xvm.xml").sparse("description.xml", domained) },
		"xvm-sparse":                 func(f *forger) *tarball { return f.honest("xvm.xml").sparse("xvm.xml", described) },
		"xvm-oversized":              func(f *forger) *tarball { return f.honest("xvm.xml").file("xvm.xml", long) },
		"xvm-sparse-unsigned":        func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").sparse("xvm.xml", described) },
		"xvm-upper-case":             func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").file("XVM.XML", described) },
		"xvm-nested": func(f *forger) *tarball {
			return f.honest().file("sub/xvm.xml", described).file("sub/signature.asc", evil).file("sub/manifest.txt", evil)
		},
		"ovf":                         func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").file("box.ovf", evil) },
		"ovf-sparse":                  func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").sparse("box.ovf", evil) },
		"ova-xml":                     func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").file("ova.xml", ovaXML) },
		"second-manifest":             func(f *forger) *tarball { return f.honest().file("box.mf", evil).file("box.cert", evil) },
		"signature-sparse":            func(f *forger) *tarball { return f.honest("signature.asc").sparse("signature.asc", evil) },
		"signature-of-nothing":        func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").file("signature.asc", evil) },
		"signature-of-nothing-sparse": func(f *forger) *tarball { return f.honest("xvm.xml", "signature.asc").sparse("signature.asc", evil) },
		"mf-signature-sparse":         func(f *forger) *tarball { return f.honest("mf-signature.asc").sparse("mf-signature.asc", evil) },
		"mf-signature-oversized": func(f *forger) *tarball {
			return f.honest("mf-signature.asc").file("mf-signature.asc", evil+strings.Repeat("\n", xvm.MaxMeta))
		},
		"manifest-sparse":  func(f *forger) *tarball { return f.honest("manifest.txt").sparse("manifest.txt", evil) },
		"notes":            func(f *forger) *tarball { return f.honest().file("notes.html", evil) },
		"notes-sparse":     func(f *forger) *tarball { return f.honest().sparse("notes.html", evil) },
		"block-list":       func(f *forger) *tarball { return f.honest().file("blocks.txt", evil) },
		"profile":          func(f *forger) *tarball { return f.honest().file("profile.txt", evil) },
		"image":            func(f *forger) *tarball { return f.honest().file("other.img", string(boot(evil))) },
		"image-compressed": func(f *forger) *tarball { return f.honest().file("other.img.gz", zipped.String()) },
		"image-inflated":   func(f *forger) *tarball { return f.honest("disk0.img").file("disk0.img.gz", zipped.String()) },
		"image-in-chunks": func(f *forger) *tarball {
			return f.honest("disk0.img").file("ova.xml", ovaXML).file("Ref:1/00000000", string(boot(evil)))
		},
		"image-in-chunks-undescribed": func(f *forger) *tarball {
			return f.honest("disk0.img", "xvm.xml", "signature.asc").file("ova.xml", ovaXML).file("Ref:1/00000000", string(boot(evil)))
		},
		"kernel": func(f *forger) *tarball { return f.honest().file("initrd.img", evil) },
	}
	for name, forged := range cases {
		w.publish(name, forged(forge(name)).end())
	}
	options := w.options("keyring="+ring, "soft", "complete=off")
	w.mount("keyring="+ring, "soft", "complete=off")
	out, err := exec.Command(binary, "list", "--json", "-o", options, w.feed).Output()
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
			out, err := w.run("verify", "-o", options, w.feed, row.Name)
			if want := row.Name != "honest"; (exitCode(err) == exitFailed) != want {
				t.Errorf("verify: %v\n%s", err, out)
			}
			for _, hypervisor := range []string{"qemu", "xl", "libvirt"} {
				out, err := w.run("config", hypervisor, w.path(row.Name))
				if strings.Contains(out, evil) {
					t.Errorf("config %s: %v\n%s", hypervisor, err, out)
				}
				if row.Name == "honest" && (err != nil || !strings.Contains(out, "honest")) {
					t.Errorf("config %s: %v\n%s", hypervisor, err, out)
				}
			}
			if row.Name == "honest" && (len(refused) > 0 || row.State != "indexed") {
				t.Errorf("an honest release is %q; refused are %q", row.State, refused)
			}
		})
	}
}

// served reads every file of a release, and tells which are served and which
// are refused. What is served must be nobody's forgery.
func (w *world) served(t *testing.T, release string) (open, refused []string) {
	t.Helper()
	root := w.path(release)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return fs.SkipDir // the release is rejected as a whole
		}
		if !d.Type().IsRegular() {
			return nil
		}
		name, _ := filepath.Rel(root, path)
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
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	return open, refused
}
