package xvm

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"vmcastfs/xvm/sums"
)

type sidecarFile struct {
	name    string
	content []byte
}

// sidecarParts is a sidecar of a package with two files.
func sidecarParts(t testing.TB) []sidecarFile {
	t.Helper()
	s := Sidecar{Size: 10240, SHA256: sha256.Sum256([]byte("archive")), Members: []SidecarMember{
		{"xvm.xml", 6, sha256.Sum256([]byte("<xvm/>"))}, {"root image.gz", 99, sha256.Sum256([]byte("gz"))},
	}}
	about, err := s.AppendPackage(nil)
	if err != nil {
		t.Fatal(err)
	}
	var blocks bytes.Buffer
	w := NewBlockListWriter(&blocks)
	if err := errors.Join(w.Begin("root image", "", 4096, 4096), w.Block(sha256.Sum256(nil), 0), w.Close()); err != nil {
		t.Fatal(err)
	}
	points := []byte("points")
	profile := []byte(profileMagic + "\nroot image 0 4096\n")
	files := []sidecarFile{{SidecarPackage, about}, {SidecarManifest, nil}, {SidecarSignature, []byte("signature")},
		{BlockListName, blocks.Bytes()}, {SidecarPoints + "root image.gz", points}, {ProfileName, profile}}
	for _, f := range files {
		if f.name != SidecarManifest && f.name != SidecarSignature {
			sum := sha256.Sum256(f.content)
			files[1].content = AppendTag(files[1].content, sums.Sum{Algo: sums.SHA256, Hex: hex.EncodeToString(sum[:])}, f.name)
		}
	}
	return append(files[:3:3], files[5], files[3], files[4])
}

// Where they are in sidecarParts.
const (
	partSignature = 2 + iota
	partProfile
	partBlocks
	partPoints
)

func sidecarTar(t testing.TB, files []sidecarFile) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(f.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReadSidecar(t *testing.T) {
	t.Parallel()
	s, err := ReadSidecar(bytes.NewReader(sidecarTar(t, sidecarParts(t))))
	if err != nil {
		t.Fatal(err)
	}
	if s.Size != 10240 || len(s.Members) != 2 || s.Members[1].Name != "root image.gz" || s.Blocks.Image("root image") == nil ||
		string(s.Points["root image.gz"]) != "points" || string(s.Signature) != "signature" || !strings.HasPrefix(string(s.Profile), profileMagic) {
		t.Errorf("read back as %+v", s)
	}
	index := &Index{Size: 10240, Members: []Member{{Name: "xvm.xml", Size: 6}, {Name: "root image.gz", Size: 99}}}
	if err := s.Match(index); err != nil {
		t.Error(err)
	}
	index.Members[1].Size++
	if err := s.Match(index); !errors.Is(err, ErrSidecar) {
		t.Errorf("it matches a package with a longer file: %v", err)
	}
	index.Members[1].Size--
	index.Members[1].Name = "root.img.gz"
	if err := s.Match(index); !errors.Is(err, ErrSidecar) {
		t.Errorf("it matches a package with another file of that size: %v", err)
	}
}

// A sidecar of version 1 keeps what does not come from a decoder.
func TestReadSidecarOfVersion1(t *testing.T) {
	t.Parallel()
	parts := sidecarParts(t)
	var blocks bytes.Buffer
	w := NewBlockListWriter(&blocks)
	for _, name := range []string{"root image", "root image.gz", "disk0.img"} {
		if err := errors.Join(w.Begin(name, "", 4096, 4096), w.Block(sha256.Sum256(nil), 0)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	parts[0].content = bytes.Replace(parts[0].content, []byte("sidecar 2"), []byte("sidecar 1"), 1)
	parts[partBlocks].content = blocks.Bytes()
	parts[1].content = nil
	for i, f := range parts {
		if i != 1 && i != partSignature {
			sum := sha256.Sum256(f.content)
			parts[1].content = AppendTag(parts[1].content, sums.Sum{Algo: sums.SHA256, Hex: hex.EncodeToString(sum[:])}, f.name)
		}
	}
	s, err := ReadSidecar(bytes.NewReader(sidecarTar(t, parts)))
	if err != nil {
		t.Fatal(err)
	}
	if s.Version != 1 || len(s.Unused) != 1 || s.Unused[0] != "root image" || len(s.Points) != 0 || len(s.Profile) == 0 {
		t.Errorf("%+v", s)
	}
	for name, kept := range map[string]bool{"root image": false, "root image.gz": true, "disk0.img": true} {
		if got := s.Blocks.Image(name) != nil; got != kept {
			t.Errorf("blocks of %s: %t", name, got)
		}
	}
	if n := len(s.Blocks.Images()); n != 2 {
		t.Errorf("%d images", n)
	}
}

func TestReadSidecarRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f []sidecarFile) []sidecarFile{
		"nothing":            func([]sidecarFile) []sidecarFile { return nil },
		"no package":         func(f []sidecarFile) []sidecarFile { return f[1:] },
		"no manifest":        func(f []sidecarFile) []sidecarFile { return append(f[:1:1], f[2:]...) },
		"no blocks":          func(f []sidecarFile) []sidecarFile { return f[:4] },
		"blocks twice":       func(f []sidecarFile) []sidecarFile { return append(f, f[partBlocks]) },
		"points before":      func(f []sidecarFile) []sidecarFile { f[4], f[5] = f[5], f[4]; return f },
		"points twice":       func(f []sidecarFile) []sidecarFile { return append(f, f[partPoints]) },
		"another file":       func(f []sidecarFile) []sidecarFile { return append(f, sidecarFile{"x", nil}) },
		"unlisted points":    func(f []sidecarFile) []sidecarFile { return append(f, sidecarFile{"points/x.gz", nil}) },
		"points changed":     func(f []sidecarFile) []sidecarFile { f[partPoints].content = []byte("pointz"); return f },
		"package changed":    func(f []sidecarFile) []sidecarFile { f[0].content[30] ^= 1; return f },
		"blocks changed":     func(f []sidecarFile) []sidecarFile { f[partBlocks].content[80] ^= 1; return f },
		"profile missing":    func(f []sidecarFile) []sidecarFile { return append(f[:partProfile:partProfile], f[partBlocks:]...) },
		"profile twice":      func(f []sidecarFile) []sidecarFile { return append(f[:partBlocks:partBlocks], f[partProfile:]...) },
		"profile after":      func(f []sidecarFile) []sidecarFile { f[3], f[4] = f[4], f[3]; return f },
		"profile changed":    func(f []sidecarFile) []sidecarFile { f[partProfile].content[28] ^= 1; return f },
		"profile of nothing": func(f []sidecarFile) []sidecarFile { f[partProfile].content = []byte("x"); return f },
		"signature too long": func(f []sidecarFile) []sidecarFile { f[2].content = make([]byte, MaxSignatureSize+1); return f },
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := ReadSidecar(bytes.NewReader(sidecarTar(t, change(sidecarParts(t))))); !errors.Is(err, ErrSidecar) {
				t.Errorf("error is %v", err)
			}
		})
	}
	whole := sidecarTar(t, sidecarParts(t))
	for n := 0; n < len(whole)-1024-512; n += 100 {
		if _, err := ReadSidecar(bytes.NewReader(whole[:n])); !errors.Is(err, ErrSidecar) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}

func TestSidecarPackageForm(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	good := "vmcast-sidecar 2\narchive 512 " + sum + "\nmember 3 " + sum + " a b\nend\n"
	for doc, ok := range map[string]bool{
		good:                                                         true,
		strings.ReplaceAll(good, "\n", "\r\n"):                       true,
		strings.TrimSuffix(good, "\n"):                               false,
		good + "\n":                                                  false,
		strings.Replace(good, "2", "1", 1):                           true,
		strings.Replace(good, "2", "3", 1):                           false,
		"vmcast-sidecar 2\nend\n":                                    false,
		strings.Replace(good, "a b", "../b", 1):                      false,
		strings.Replace(good, "a b", "a,b", 1):                       false,
		strings.Replace(good, " a b", "", 1):                         false,
		strings.Replace(good, "0a", "0", 1):                          false,
		strings.Replace(good, "0a", "0g", 1):                         false,
		strings.Replace(good, "512", "-1", 1):                        false,
		strings.Replace(good, "end", "member 3 "+sum+" a b\nend", 1): false,
		strings.Replace(good, "end", "archive 3 "+sum+"\nend", 1):    false,
	} {
		var s Sidecar
		if err := s.parsePackage([]byte(doc)); (err == nil) != ok || err != nil && !errors.Is(err, ErrSidecar) {
			t.Errorf("%q: %v", doc, err)
		}
	}
}

func FuzzReadSidecar(f *testing.F) {
	parts := sidecarParts(f)
	f.Add(sidecarTar(f, parts))
	f.Add(sidecarTar(f, parts[:4]))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ReadSidecar(bytes.NewReader(b))
		if err != nil {
			if !errors.Is(err, ErrSidecar) {
				t.Errorf("error of an unknown kind: %v", err)
			}
			return
		}
		if _, err := s.AppendPackage(nil); err != nil {
			t.Error(err)
		}
	})
}
