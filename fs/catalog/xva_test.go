package catalog

import (
	"bytes"
	"crypto/sha1"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"vmcastfs/cache/origin"
	"vmcastfs/fs/catalog/image"
	"vmcastfs/xvm"
)

const mib = 1 << 20

// xvaOf is an XVA archive of disks: zero chunks are left out but for the first
// and the last, as XenServer does.
func xvaOf(t testing.TB, sum string, disks ...[]byte) []byte {
	t.Helper()
	var objects, files = "", []file(nil)
	for i, disk := range disks {
		ref := fmt.Sprintf("Ref:%d", 10+i)
		objects += fmt.Sprintf(`<value><struct><member><name>class</name><value>VDI</value></member><member><name>id</name><value>%s</value></member>
			<member><name>snapshot</name><value><struct><member><name>virtual_size</name><value>%d</value></member></struct></value></member></struct></value>`, ref, len(disk))
		for n := 0; n*mib < len(disk); n++ {
			chunk := disk[n*mib : min(len(disk), (n+1)*mib)]
			if len(bytes.Trim(chunk, "\x00")) == 0 && n > 0 && (n+1)*mib < len(disk) {
				continue
			}
			name := fmt.Sprintf("%s/%08d", ref, n)
			files = append(files, file{name, chunk})
			switch sum {
			case "sha1":
				files = append(files, file{name + ".checksum", fmt.Appendf(nil, "%x", sha1.Sum(chunk))})
			case "xxhash":
				files = append(files, file{name + ".xxhash", fmt.Appendf(nil, "%016x", xxhash.Sum64(chunk))})
			}
		}
	}
	xml := `<value><struct><member><name>objects</name><value><array><data>` + objects + `</data></array></value></member></struct></value>`
	return tarOf(t, append([]file{{xvm.XVAName, []byte(xml)}}, files...)...)
}

// xenDisk has chunks of zeros in it.
func xenDisk(chunks int, seed uint64) []byte {
	p := bytes.Repeat(noise(mib, byte(seed)), chunks)
	for n := range chunks {
		copy(p[n*mib:], fmt.Sprintf("chunk %d of %d", n, seed))
		if n%3 == 1 {
			clear(p[n*mib : (n+1)*mib])
		}
	}
	return p
}

// noise does not compress.
func noise(size int, seed byte) []byte {
	p := make([]byte, size)
	x := uint32(seed) + 1
	for i := range p {
		x = x*1664525 + 1013904223
		p[i] = byte(x >> 24)
	}
	return p
}

func TestXVA(t *testing.T) {
	t.Parallel()
	a, b := xenDisk(9, 1), append(xenDisk(3, 2), noise(4096, 9)...)
	for sum, state := range map[string]string{"sha1": "verified", "xxhash": "verified", "none": "unverified"} {
		for _, compress := range []bool{false, true} {
			s := newSite(t)
			pkg := xvaOf(t, sum, a, b)
			if compress {
				pkg = gz(t, pkg)
			}
			s.release("one", "/one.xva", pkg)
			h := s.open()
			if got := h.names("one"); got != "disk0.img disk1.img ova.xml" {
				t.Fatalf("%s: files are %s", sum, got)
			}
			fh := h.open("one", "disk0.img")
			p := make([]byte, 3*mib)
			if n, err := fh.ReadAt(t.Context(), p, mib/2); err != nil || !bytes.Equal(p[:n], a[mib/2:mib/2+3*mib]) {
				t.Errorf("%s: %d, %v", sum, n, err)
			}
			if got, err := fh.SeekHole(0); err != nil || got != mib {
				t.Errorf("%s: a hole at %d, %v", sum, got, err)
			}
			for name, want := range map[string][]byte{"disk0.img": a, "disk1.img": b} {
				if got := h.read("one", name); !bytes.Equal(got, want) {
					t.Errorf("%s: %s differs", sum, name)
				}
				if err := h.complete("one", name); err != nil {
					t.Errorf("%s: %v", sum, err)
				}
				if st := h.file("one", name).Status(); st.State != state {
					t.Errorf("%s: %s is %+v", sum, name, st)
				}
			}
			if got, _ := h.file("one", "disk0.img").Blocks(); got != 6*mib/512 {
				t.Errorf("%s: %d blocks", sum, got)
			}
			h.close()
		}
	}
}

// Without a validator an archive may have been replaced between two chunks, each
// of which has the checksum that came with it.
func TestXVAWithoutValidator(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	disk := xenDisk(3, 1)
	s.release("one", "/one.xva", xvaOf(t, "sha1", disk))
	s.origin.Inject(origin.Fault{Path: "/one.xva", Kind: origin.NoValidators})
	h := s.open()
	if got := h.read("one", "disk0.img"); !bytes.Equal(got, disk) {
		t.Error("disk0.img differs")
	}
	if err := h.complete("one", "disk0.img"); err != nil {
		t.Error(err)
	}
	st := h.file("one", "disk0.img").Status()
	if st.State != "unverified" || !strings.Contains(st.Note, "gives no validator") || !strings.Contains(st.VerifyNote, "gives no validator") {
		t.Errorf("%+v", st)
	}
}

// One byte wrong is one chunk that cannot be read.
func TestXVAFlipped(t *testing.T) {
	t.Parallel()
	disk := xenDisk(9, 1)
	for _, sum := range []string{"sha1", "xxhash"} {
		s := newSite(t)
		pkg := xvaOf(t, sum, disk)
		s.release("one", "/one.xva", pkg)
		at := int64(bytes.Index(pkg, []byte("chunk 3 of 1"))) + 5000
		s.origin.Inject(origin.Fault{Path: "/one.xva", Kind: origin.Flip, At: at})
		h := s.open()
		fh := h.open("one", "disk0.img")
		for n := range 9 {
			p := make([]byte, 8192)
			_, err := fh.ReadAt(t.Context(), p, int64(n)*mib+100)
			var bad *image.ChunkError
			switch {
			case n == 3 && (!errors.As(err, &bad) || bad.Chunk != 3):
				t.Errorf("%s: the wrong chunk gives %v", sum, err)
			case n != 3 && (err != nil || !bytes.Equal(p, disk[n*mib+100:][:8192])):
				t.Errorf("%s: chunk %d: %v", sum, n, err)
			}
		}
		if err := h.complete("one", "disk0.img"); err == nil {
			t.Errorf("%s: complete in spite of a wrong chunk", sum)
		}
	}
}

// An archive whose parts do not fit together is no package.
func TestXVARefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.release("one", "/one.xva", tarOf(t, file{xvm.XVAName, []byte("<value/>")}, file{"Ref:1/00000003", noise(mib, 1)}, file{"Ref:1/00000001", noise(mib, 1)}))
	if _, err := s.open().rel("one").Package(t.Context()); !errors.Is(err, xvm.ErrNotPackage) || !strings.Contains(err.Error(), "order") {
		t.Error(err)
	}
}

// The headers of a large XVA archive, two for each MiB, are not waited for one
// by one.
func TestXVAWalk(t *testing.T) {
	t.Parallel()
	const chunks = 120
	s := newSite(t)
	pkg := xvaOf(t, "xxhash", bytes.Repeat(noise(mib, 3), chunks))
	s.release("one", "/one.xva", pkg)
	h := s.open()
	if got := h.file("one", "disk0.img").Size(); got != chunks*mib {
		t.Errorf("%d bytes", got)
	}
	st := s.origin.Stats("/one.xva")
	if st.Requests > chunks+50 || st.BytesSent > 2*mib {
		t.Errorf("%d requests and %d bytes for %d chunks", st.Requests, st.BytesSent, chunks)
	}
	conns := make(map[int64]bool)
	for _, r := range s.origin.Log() {
		conns[r.Conn] = true
	}
	if len(conns) < 4 {
		t.Errorf("over %d connections", len(conns))
	}
}
