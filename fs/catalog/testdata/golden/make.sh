#!/bin/bash
# Makes the golden packages: one of every dialect, as far as its samples and its
# packagers are known, with plain tools. Not run by the tests: what is here was
# made once and stays, so that later versions go on reading it.
set -euo pipefail
cd "$(dirname "$0")"
out=$PWD work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export TZ=UTC LC_ALL=C
pack() { local to=$1; shift; find . -exec touch -d 2026-03-01T12:00:00 {} +; tar --owner=0 --group=0 --numeric-owner -cf "$out/$to" "$@"; }

# The contents: a file system, a swap area, a whole disk.
mkdir tree && echo "hello from the image" >tree/hello
truncate -s 131072 ext && mke2fs -q -F -t ext2 -b 1024 -N 16 -U 6f1c1d5e-0b1a-4c6b-9a55-0123456789ab -E hash_seed=6f1c1d5e-0b1a-4c6b-9a55-0123456789ab,root_owner=0:0 -d tree ext
truncate -s 40960 swap && mkswap -U 7f1c1d5e-0b1a-4c6b-9a55-0123456789ab swap >/dev/null
seq 1 12000 | head -c 49152 >disk || true; printf '\125\252' | dd of=disk bs=1 seek=510 conv=notrunc status=none
qemu-img convert -f raw -O qcow2 disk disk.qcow2
qemu-img convert -f raw -O vmdk -o subformat=streamOptimized disk disk.vmdk

# VMcasting, 2007: xvm.xml, SHA-1 sums, partition images, in the samples gzip-compressed.
cat >xvm.xml <<'X'
<?xml version="1.0"?>
<xvm>
  <name>debian-3.1</name>
  <description>Debian 3.1 minimal install optimized for XEN</description>
  <memory unit="MiB">128</memory>
  <imagefile target="sda1">imagefile</imagefile>
  <imagefile target="sda2">imagefile2</imagefile>
</xvm>
X
gzip -9nc ext >imagefile.gz && gzip -9nc swap >imagefile2.gz && cp ext imagefile && cp swap imagefile2
sha1sum xvm.xml imagefile.gz imagefile2.gz >manifest.txt
pack xvm-2007.xvm --format=ustar xvm.xml manifest.txt imagefile.gz imagefile2.gz
sha1sum -b xvm.xml imagefile imagefile2 >manifest.txt
pack xvm-2007-plain.xvm --format=v7 ./imagefile ./imagefile2 ./manifest.txt ./xvm.xml
mkdir -p "JumpBox Wiki/images" && cp xvm.xml "JumpBox Wiki/" && cp imagefile imagefile2 "JumpBox Wiki/images/"
truncate -s 200000 "JumpBox Wiki/images/imagefile"
pack xvm-gnu-sparse.xvm --format=gnu -S "JumpBox Wiki"
pack xvm-pax.xvm --format=pax -S xvm.xml manifest.txt imagefile imagefile2
gzip -9nc "$out/xvm-2007.xvm" >"$out/xvm.xvm.gz"
xz -c "$out/xvm-2007-plain.xvm" >"$out/xvm.xvm.xz"
bzip2 -c "$out/xvm-2007-plain.xvm" >"$out/xvm.xvm.bz2"
zstd -qc "$out/xvm-2007-plain.xvm" >"$out/xvm.xvm.zst"

# Enomalism 2 / ECP: a libvirt domain, "name size md5" of the plain disks.
cat >description.xml <<'X'
<domain type="kvm"><name>ecp</name><uuid>6f1c1d5e-0b1a-4c6b-9a55-0123456789ab</uuid><memory>262144</memory><vcpu>1</vcpu>
<os><type>hvm</type><boot dev="hd"/></os><features><acpi/></features>
<devices><disk type="file" device="disk"><source file="hd0.img.gz"/><target dev="hda"/></disk>
<disk type="file" device="cdrom"><source file="cdrom1.iso.gz"/><target dev="hdc"/></disk></devices></domain>
X
gzip -nc disk >hd0.img.gz && truncate -s 65536 cdrom1.iso && printf '\001CD001\001' | dd of=cdrom1.iso bs=1 seek=32768 conv=notrunc status=none && gzip -nc cdrom1.iso >cdrom1.iso.gz
{ printf 'hd0.img %s %s\n' "$(stat -c %s disk)" "$(head -c 1048576 disk | md5sum | cut -c 1-32)"
  printf 'cdrom1.iso %s %s\n' "$(stat -c %s cdrom1.iso)" "$(md5sum <cdrom1.iso | cut -c 1-32)"; } >manifest.txt
pack enomalism.xvm2 --format=gnu description.xml manifest.txt hd0.img.gz cdrom1.iso.gz

# Archipel: no manifest, members with a leading slash, a snapshot's description.
sed 's/ecp/archipel/; s/hd0.img.gz/drive-1.qcow2/; /cdrom/d; s|</disk>|</disk></devices></domain>|' description.xml >archipel.xml
mkdir a && mv archipel.xml a/description.xml && echo '<domainsnapshot><name>1</name></domainsnapshot>' >a/snapshot-1.xml && gzip -nc disk.qcow2 >a/drive-1.qcow2.gz
(cd a && pack archipel.xvm2 --format=gnu -P --transform 's,^,/,' description.xml snapshot-1.xml drive-1.qcow2.gz)

# OVA, with both forms of the manifest.
cat >box.ovf <<'X'
<?xml version="1.0" encoding="UTF-8"?>
<Envelope ovf:version="1.0" xmlns="http://schemas.dmtf.org/ovf/envelope/1" xmlns:ovf="http://schemas.dmtf.org/ovf/envelope/1" xmlns:rasd="http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/CIM_ResourceAllocationSettingData">
<References><File ovf:href="box-disk1.vmdk" ovf:id="file1"/></References>
<DiskSection><Info/><Disk ovf:capacity="49152" ovf:diskId="vmdisk1" ovf:fileRef="file1"/></DiskSection>
<VirtualSystem ovf:id="box"><Info/><VirtualHardwareSection><Info/>
<Item><rasd:InstanceID>1</rasd:InstanceID><rasd:ResourceType>3</rasd:ResourceType><rasd:VirtualQuantity>2</rasd:VirtualQuantity></Item>
<Item><rasd:AllocationUnits>byte * 2^20</rasd:AllocationUnits><rasd:InstanceID>2</rasd:InstanceID><rasd:ResourceType>4</rasd:ResourceType><rasd:VirtualQuantity>256</rasd:VirtualQuantity></Item>
<Item><rasd:InstanceID>3</rasd:InstanceID><rasd:ResourceSubType>lsilogic</rasd:ResourceSubType><rasd:ResourceType>6</rasd:ResourceType></Item>
<Item><rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource><rasd:InstanceID>4</rasd:InstanceID><rasd:Parent>3</rasd:Parent><rasd:ResourceType>17</rasd:ResourceType></Item>
</VirtualHardwareSection></VirtualSystem></Envelope>
X
cp disk.vmdk box-disk1.vmdk && : >box.cert
for f in box.ovf box-disk1.vmdk; do printf 'SHA1(%s)= %s\n' $f "$(sha1sum <$f | cut -c 1-40)"; done >box.mf
pack vmware-sha1.ova --format=ustar box.ovf box.mf box.cert box-disk1.vmdk
for f in box.ovf box-disk1.vmdk; do printf 'SHA256 (%s) = %s\r\n' $f "$(sha256sum <$f | cut -c 1-64)"; done >box.mf
pack virtualbox-sha256.ova --format=ustar box.ovf box-disk1.vmdk box.mf

# XVA: chunks of 1 MiB with their checksums; absent ones are zeros.
member() { printf '<member><name>%s</name><value>%s</value></member>' "$1" "$2"; }
object() { printf '<value><struct>%s%s%s</struct></value>' "$(member class "$1")" "$(member id "$2")" "$(member snapshot "<struct>$3</struct>")"; }
{ printf '<?xml version="1.0"?><value><struct><member><name>objects</name><value><array><data>'
  object VM Ref:0 "$(member name_label xen)$(member memory_static_max 268435456)$(member HVM_boot_policy 'BIOS order')"
  object VBD Ref:1 "$(member VM Ref:0)$(member VDI Ref:4)$(member userdevice 0)$(member type Disk)"
  object VDI Ref:4 "$(member virtual_size 4194304)"
  printf '</data></array></value></member></struct></value>'; } >ova.xml
mkdir Ref:4
for n in 0 2; do cp disk "Ref:4/0000000$n" && truncate -s 1048576 "Ref:4/0000000$n"; printf %s "$(sha1sum <"Ref:4/0000000$n" | cut -c 1-40)" >"Ref:4/0000000$n.checksum"; done
pack xenserver.xva --format=ustar ova.xml Ref:4/00000000 Ref:4/00000000.checksum Ref:4/00000002 Ref:4/00000002.checksum
gzip -9nf "$out/xenserver.xva"
for n in 0 2; do rm "Ref:4/0000000$n.checksum"; printf %s "$(xxhsum -q -H64 <"Ref:4/0000000$n" | cut -c 1-16)" >"Ref:4/0000000$n.xxhash"; done
pack xcp-ng.xva --format=ustar ova.xml Ref:4/00000000 Ref:4/00000000.xxhash Ref:4/00000002 Ref:4/00000002.xxhash
zstd -qf --rm "$out/xcp-ng.xva"

# The image itself.
gzip -nc disk >"$out/bare.img.gz" && xz -c disk.qcow2 >"$out/bare.qcow2.xz" && bzip2 -c disk.vmdk >"$out/bare.vmdk.bz2" && zstd -qc ext >"$out/ami.ext.zst"
cp disk.vmdk "$out/bare.vmdk"
for f in dynamic fixed; do qemu-img convert -f raw -O vpc -o subformat=$f,force_size=on disk bare-$f.vhd && zstd -q19c bare-$f.vhd >"$out/bare-$f.vhd.zst"; done
for f in vhdx vdi parallels; do qemu-img convert -f raw -O $f disk bare.$f && zstd -q19c bare.$f >"$out/bare.$f.zst"; done
