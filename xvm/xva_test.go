package xvm

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// xapi writes an ova.xml with a machine, a snapshot of it, two disks and an
// empty CD drive, the disks attached in the other order.
func xapi(size0, size1 int64) []byte {
	record := func(class, id string, fields ...string) string {
		var b strings.Builder
		member := func(name, value string) {
			fmt.Fprintf(&b, "<member><name>%s</name><value>%s</value></member>", name, value)
		}
		b.WriteString("<value><struct>")
		member("class", class)
		member("id", "<string>"+id+"</string>")
		b.WriteString("<member><name>snapshot</name><value><struct>")
		for i := 0; i < len(fields); i += 2 {
			member(fields[i], fields[i+1])
		}
		b.WriteString("</struct></value></member></struct></value>")
		return b.String()
	}
	return []byte(`<?xml version="1.0"?><value><struct><member><name>version</name><value>x</value></member>` +
		`<member><name>objects</name><value><array><data>` +
		record("VM", "Ref:9", "is_a_snapshot", "<boolean>1</boolean>", "name_label", "old") +
		record("VM", "Ref:0", "is_a_snapshot", "<boolean>0</boolean>", "name_label", "wiki", "memory_static_max", "536870912", "VCPUs_max", "2",
			"HVM_boot_policy", "", "PV_bootloader", "/usr/bin/pygrub") +
		record("VBD", "Ref:1", "VM", "Ref:0", "VDI", "OpaqueRef:NULL", "userdevice", "3", "type", "CD") +
		record("VBD", "Ref:2", "VM", "Ref:0", "VDI", "Ref:5", "userdevice", "1", "type", "Disk") +
		record("VBD", "Ref:3", "VM", "Ref:0", "VDI", "Ref:7", "userdevice", "0", "type", "Disk") +
		record("VBD", "Ref:8", "VM", "Ref:9", "VDI", "Ref:7", "userdevice", "0", "type", "Disk") +
		record("VDI", "Ref:5", "virtual_size", fmt.Sprint(size1)) +
		record("VDI", "Ref:7", "virtual_size", fmt.Sprint(size0)) +
		record("VIF", "Ref:6", "VM", "Ref:0", "MAC", "52:54:00:00:00:01") +
		`</data></array></value></member></struct></value>`)
}

func xvaIndex(names ...string) *Index {
	x := &Index{Version: indexVersion, Size: 1 << 40, Members: []Member{{Name: XVAName, Size: 10}}}
	at := int64(1024)
	for _, name := range names {
		size := int64(XVAChunk)
		if strings.Contains(name, ".") {
			size = 40
		}
		name, short, cut := strings.Cut(name, "=")
		if cut {
			fmt.Sscan(short, &size)
		}
		x.Members = append(x.Members, Member{Name: name, Offset: at, Size: size, Stored: size})
		at += size + 512
	}
	return x
}

func TestXVADisks(t *testing.T) {
	t.Parallel()
	x := xvaIndex("Ref:5/00000000", "Ref:5/00000000.checksum", "Ref:5/00000007=4096", "Ref:5/00000007.xxhash", "Ref:7/00000000", "Ref:7/00000002")
	disks, owned, err := XVADisks(x, xapi(10<<20, 7<<20+4096))
	if err != nil {
		t.Fatal(err)
	}
	if len(disks) != 2 || disks[0].Ref != "Ref:7" || disks[0].Name != "disk0.img" || disks[0].Size != 10<<20 ||
		disks[1].Ref != "Ref:5" || disks[1].Size != 7<<20+4096 {
		t.Fatalf("%+v", disks)
	}
	if c := disks[1].Chunks; len(c) != 2 || c[0].Algo != "sha1" || c[1].Algo != "xxhash" || c[1].Chunk != 7 || c[1].Len != 4096 || c[0].SumLen != 40 {
		t.Errorf("%+v", disks[1].Chunks)
	}
	if owned(XVAName) || owned("Ref:5") || !owned("Ref:5/00000000") || !owned("Ref:5/00000000.checksum") {
		t.Error("wrong members are taken for chunks")
	}

	// Without its description the archive's own order and ends count.
	disks, _, err = XVADisks(x, []byte("<!DOCTYPE x>"))
	if err != nil || len(disks) != 2 || disks[0].Ref != "Ref:5" || disks[1].Size != 3<<20 {
		t.Errorf("%+v, %v", disks, err)
	}
	// One that tells less than is stored is not believed, nor an absurd one.
	for _, size := range []int64{1, 1 << 62} {
		if disks, _, err := XVADisks(x, xapi(size, 1)); err != nil || disks[0].Size != 3<<20 {
			t.Errorf("%+v, %v", disks, err)
		}
	}
	if disks, owned, err := XVADisks(&Index{Members: []Member{{Name: "xvm.xml"}}}, nil); disks != nil || owned != nil || err != nil {
		t.Error("an XVM is taken for an XVA")
	}
}

func TestXVADisksRefuses(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{
		{"Ref:5/00000001", "Ref:5/00000000"},
		{"Ref:5/00000000", "Ref:5/00000000"},
		{"Ref:5/00000000=4096", "Ref:5/00000001"},
		{"Ref:5/00000000=1048577"},
		{"Ref:5/00000000=0"},
		{"Ref:5/00000000.checksum"},
		{"Ref:5/00000000", "Ref:5/00000001.checksum"},
		{"Ref:5/999999999999"},
	} {
		if disks, _, err := XVADisks(xvaIndex(names...), nil); err == nil {
			t.Errorf("%q: %+v", names, disks)
		}
	}
	linked := xvaIndex("Ref:5/00000000", "Ref:5/00000001")
	linked.Members[len(linked.Members)-1].Link = "Ref:5/00000000"
	if disks, _, err := XVADisks(linked, nil); err == nil {
		t.Errorf("a link: %+v", disks)
	}
}

func TestXVADescription(t *testing.T) {
	t.Parallel()
	d, err := ParseDescription(xapi(1, 1))
	if err != nil {
		t.Fatal(err)
	}
	if d.Kind != "xva" || d.MemoryMiB != 512 || d.CPUs != 2 || d.Machine != "pv" || len(d.Drives) != 2 ||
		d.Drives[0] != (Drive{File: "disk0.img", Boot: 1}) || len(d.NICs) != 1 || len(d.Warnings) != 1 {
		t.Errorf("%+v", d)
	}
}

func FuzzXVA(f *testing.F) {
	f.Add(xapi(1<<20, 2<<20), "Ref:5/00000000 Ref:5/00000000.checksum Ref:7/00000003=17")
	f.Add([]byte("<value><struct/></value>"), "Ref:1/00000000 Ref:1/00000001.xxhash")
	f.Fuzz(func(t *testing.T, description []byte, names string) {
		x := xvaIndex(strings.Fields(names)...)
		if slices.ContainsFunc(x.Members, func(m Member) bool { return m.Size < 0 }) {
			return // no walk gives that, and Index.Validate refuses it
		}
		disks, _, err := XVADisks(x, description)
		if err != nil {
			return
		}
		for _, d := range disks {
			end := int64(0)
			for _, p := range d.Chunks {
				if p.Chunk*XVAChunk < end || p.Len < 1 || p.Len > XVAChunk {
					t.Fatalf("%+v", d)
				}
				end = p.Chunk*XVAChunk + p.Len
			}
			if d.Size < end || d.Size > maxXVASize {
				t.Fatalf("%+v", d)
			}
		}
		_, _ = ParseDescription(description)
	})
}

func TestMemberName(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"disk.qcow2": "disk.qcow2", "./a": "a", "a/b": "", "..": "", ".": "", "": "", "-x": "", "a,b": "", "a\nb": "", "a/": "",
	} {
		if got, ok := MemberName(in); got != want || ok != (want != "") {
			t.Errorf("%q gives %q", in, got)
		}
	}
}
