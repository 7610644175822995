package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha1"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache"
	"vmcastfs/fs/catalog"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/fs/catalog/bundle"
	"vmcastfs/xvm"
)

// part is a member of a package in the making.
type part struct {
	name    string
	content []byte
	sparse  bool
	link    string // what it is a hard link to; "": it is none
}

// rawTar writes an archive by hand, as it may hold what no packager writes.
func rawTar(parts []part) []byte {
	var b bytes.Buffer
	entry := func(kind byte, name, link string, content []byte) {
		h := make([]byte, 512)
		copy(h, name)
		copy(h[100:], "0000644\x000000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", len(content)))
		copy(h[136:], "14524633000\x00        ")
		h[156] = kind
		copy(h[157:], link)
		copy(h[257:], "ustar\x0000")
		sum := 0
		for _, c := range h {
			sum += int(c)
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
		b.Write(h)
		b.Write(content)
		b.Write(make([]byte, -len(content)&511))
	}
	for _, p := range parts {
		switch {
		case p.link != "":
			entry('1', p.name, p.link, nil)
		case p.sparse:
			var records []byte
			for _, kv := range [][2]string{{"major", "1"}, {"minor", "0"}, {"name", p.name}, {"realsize", fmt.Sprint(len(p.content))}} {
				record := fmt.Sprintf(" GNU.sparse.%s=%s\n", kv[0], kv[1])
				n := len(record) + 2 // of two digits
				records = append(records, fmt.Sprint(n)+record...)
			}
			entry('x', "x", "", records)
			m := fmt.Sprintf("1\n0\n%d\n", len(p.content))
			entry('0', "sparse", "", append([]byte(m+strings.Repeat("\x00", -len(m)&511)), p.content...))
		default:
			entry('0', p.name, "", p.content)
		}
	}
	b.Write(make([]byte, 1024))
	return b.Bytes()
}

// TestForgeriesAgree lets chance forge signed packages: members go, come, are
// exchanged, stored sparse, linked, damaged. Where signatures are required, no byte
// is served that the publisher did not sign for that file, and mount, list and verify
// agree about every file. VMCASTFS_TEST_AGREE and VMCASTFS_TEST_SEED are those of
// TestMountListVerifyAgree.
func TestForgeriesAgree(t *testing.T) {
	count, random := 80, uint64(1)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_AGREE"), &count)
	fmt.Sscan(os.Getenv("VMCASTFS_TEST_SEED"), &random)
	rnd := rand.New(rand.NewPCG(random, 2))
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	key, err := xvm.NewSigner("publisher", "publisher@example.org", at)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "key.asc")
	if err := os.WriteFile(ring, public, 0o600); err != nil {
		t.Fatal(err)
	}
	sign := func(p []byte) []byte {
		sig, err := key.Sign(p, at)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	image := func(text string) []byte { // of a file system, that also boots
		p := bytes.Repeat([]byte(text+"\n"), 4096/(len(text)+1)+1)[:4096]
		copy(p[510:], "\x55\xaa")
		copy(p[1080:], "\x53\xef")
		return p
	}
	zipped := func(p []byte) []byte { return gzippedBytes(t, p) }
	const describe = `<xvm><name>%[1]s</name><kernel>vmlinuz</kernel><cmdline>%[1]s</cmdline><disk file="imagefile" target="xvda1"/></xvm>`
	evil := [][]byte{
		fmt.Appendf(nil, describe, "EVIL"), image("EVIL"), zipped(image("EVIL")), []byte("EVIL"), nil,
		[]byte("# EVIL\n" + strings.Repeat("0", 40) + "  imagefile\n"), []byte("vmcast-blocks 1\nend\n"),
		sign([]byte("another file")), append(fmt.Appendf(nil, describe, "EVIL"), make([]byte, xvm.MaxMeta)...),
	}
	names := []string{
		"xvm.xml", "description.xml", "manifest.txt", "mf-signature.asc", "signature.asc", "notes.html", "blocks.txt", "profile.txt", "ova.xml",
		"imagefile", "imagefile2", "disk.img", "data.img", "data.img.gz", "data.img.xz", "listed.img", "listed.img.gz", "box.ovf", "box.mf", "box.cert",
		"sub/xvm.xml", "sub/manifest.txt", "Ref:1/00000000", "Ref:1/00000000.checksum", "disk0.img", "vmlinuz", "./xvm.xml", "XVM.XML", "nested/imagefile",
	}

	f := newAgreeFeed(t)
	signed := make(map[string]map[string][]byte) // by release, what the publisher signed
	for range count {
		id := f.id("forged.xvm")
		data := image("data")
		honest := []part{
			{name: "xvm.xml", content: fmt.Appendf(nil, describe, "honest")}, {name: "imagefile", content: image("one")}, {name: "vmlinuz", content: []byte("kernel")},
			{name: "data.img.gz", content: zipped(data)}, {name: "listed.img", content: image("listed")}, {name: "disk0.img", content: image("zero")},
		}
		manifest := []byte("# vmcast-release: " + id + "\n")
		files := map[string][]byte{"data.img": data}
		for _, p := range honest {
			manifest = fmt.Appendf(manifest, "%x  %s\n", sha1.Sum(p.content), p.name)
			files[p.name] = p.content
		}
		honest = append(honest, part{name: "manifest.txt", content: manifest}, part{name: "mf-signature.asc", content: sign(manifest)},
			part{name: "signature.asc", content: sign(honest[0].content)})
		for _, p := range honest {
			files[p.name] = p.content
		}
		signed[id] = files
		parts := slices.Clone(honest)
		for range rnd.IntN(5) { // sometimes it stays as it is
			switch i := rnd.IntN(len(parts)); rnd.IntN(7) {
			case 0, 1:
				if len(parts) > 1 {
					parts = slices.Delete(parts, i, i+1)
				}
			case 2, 3:
				parts = slices.Insert(parts, i, part{name: names[rnd.IntN(len(names))], content: evil[rnd.IntN(len(evil))], sparse: rnd.IntN(3) == 0})
			case 4:
				parts = append(parts, part{name: names[rnd.IntN(len(names))], link: parts[i].name})
			case 5:
				parts[i].name = names[rnd.IntN(len(names))]
			default:
				parts[i].content = bytes.Clone(parts[i].content)
				if n := len(parts[i].content); n > 0 {
					parts[i].content[rnd.IntN(n)] ^= 1 << rnd.IntN(8)
				}
			}
		}
		f.add("forged.xvm", rawTar(parts))
	}
	keys, err := xvm.ParseKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	over := map[string]string{"mf-signature.asc": "manifest.txt", "signature.asc": "xvm.xml"}
	verifies := func(content, signature []byte) bool {
		_, err := keys.Verify(content, signature, time.Now())
		return err == nil
	}
	s, o := f.open("keyring=" + ring)
	f.compare(s, o, func(r *catalog.Release, pkg *bundle.Package) {
		for _, file := range pkg.All() {
			content, err := readWhole(t.Context(), file)
			switch want, ok := signed[r.Item().ID][file.Name()]; {
			case file.Name() == "disk.img" && err == nil && !bytes.Contains(content, []byte("EVIL")): // made of what is signed
			case errors.Is(err, archive.ErrRefused), errors.Is(err, cache.ErrCorrupt): // as it should be
			case err == nil && file.Name() == "box.mf" && bytes.Equal(content, signed[r.Item().ID]["manifest.txt"]): // where a manifest may be, too
			case err == nil && over[file.Name()] != "" && verifies(signed[r.Item().ID][over[file.Name()]], content): // a bit of its armor that says nothing
			case err != nil && ok && file.Status().Refused == "":
				t.Logf("%s: %s: %v", r.Name(), file.Name(), err)
			case err == nil && (!ok || !bytes.Equal(content, want)):
				t.Errorf("%s: served is a %s that nobody signed: %.60q", r.Name(), file.Name(), content)
			}
		}
	})
}

// readWhole opens a file and reads it in small pieces, as a guest does.
func readWhole(ctx context.Context, file *bundle.File) ([]byte, error) {
	h, err := file.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	var content []byte
	for p := make([]byte, 1000); ; {
		n, err := h.ReadAt(ctx, p, int64(len(content)))
		content = append(content, p[:n]...)
		if errors.Is(err, io.EOF) || err == nil && n == 0 {
			return content, nil
		}
		if err != nil {
			if len(content) > 0 && bytes.Contains(content, []byte("EVIL")) {
				return content, nil // it has been served
			}
			return nil, err
		}
	}
}

// gzippedBytes is p as gzip has it.
func gzippedBytes(t *testing.T, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
