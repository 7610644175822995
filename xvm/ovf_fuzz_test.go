package xvm

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"slices"
	"testing"
)

// FuzzOVF fills an OVF descriptor with hostile values in every place that is
// read, which bytes alone seldom reach.
func FuzzOVF(f *testing.F) {
	f.Add("box", "disk.vmdk", "file1", "file1", "d1", "ovf:/disk/d1", "5", "lsilogic", "2", "byte * 2^20", "52:54:00:00:00:01", "VM Network", uint8(17))
	f.Add("a\nb", "../../etc/shadow", "x", "y", "", "/", "20", "AHCI", "-1", "GigaBytes", "x", "br0", uint8(15))
	f.Add("", "http://host/x.vmdk", "", "", "", "", "6", "", "99999999999999999999", "byte*2^99", "", "", uint8(10))
	f.Fuzz(func(t *testing.T, name, href, id, ref, disk, host, controller, sub, quantity, units, mac, network string, kind uint8) {
		var b bytes.Buffer
		text := func(s string) string {
			var e bytes.Buffer
			_ = xml.EscapeText(&e, []byte(s))
			return e.String()
		}
		item := func(pairs ...string) {
			b.WriteString("<Item>")
			for i := 0; i < len(pairs); i += 2 {
				fmt.Fprintf(&b, "<rasd:%s>%s</rasd:%s>", pairs[i], text(pairs[i+1]), pairs[i])
			}
			b.WriteString("</Item>")
		}
		fmt.Fprintf(&b, `<Envelope xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="r">
<References><File ovf:id="%s" ovf:href="%s" ovf:compression="%s"/></References><DiskSection><Disk ovf:diskId="%s" ovf:fileRef="%s"/></DiskSection>
<VirtualSystem ovf:id="%s"><Name>%s</Name><AnnotationSection><Annotation>%s</Annotation></AnnotationSection><VirtualHardwareSection>
<Config ovf:key="firmware" ovf:value="%s"/>`, text(id), text(href), text(sub), text(disk), text(ref), text(name), text(name), text(network), text(sub))
		item("InstanceID", id, "ResourceType", controller, "ResourceSubType", sub)
		item("InstanceID", "2", "ResourceType", "3", "VirtualQuantity", quantity)
		item("InstanceID", "3", "ResourceType", "4", "VirtualQuantity", quantity, "AllocationUnits", units)
		item("InstanceID", "4", "ResourceType", fmt.Sprint(kind), "Parent", id, "HostResource", host, "Address", mac, "Connection", network, "ResourceSubType", sub)
		b.WriteString("</VirtualHardwareSection></VirtualSystem></Envelope>")
		d, err := ParseDescription(b.Bytes())
		if err != nil {
			return // such as characters that XML does not have
		}
		if d.Kind != "ovf" {
			t.Fatalf("it is %q", d.Kind)
		}
		if what := d.unclean(); what != "" {
			t.Fatalf("%s\n%+v", what, d)
		}
		for _, v := range d.Drives {
			if clean, slash, reason := tarName(v.File); clean != v.File || slash || reason != "" || !slices.Contains([]string{"", "ide", "scsi", "sata", "nvme"}, v.Bus) {
				t.Fatalf("%+v", v)
			}
		}
		if d.CPUs < 0 || d.CPUs > maxCPUs || d.MemoryMiB < 0 || d.MemoryMiB > maxMemoryMiB || !slices.Contains([]string{"", "uefi", "bios"}, d.Firmware) {
			t.Fatalf("%+v", d)
		}
	})
}
