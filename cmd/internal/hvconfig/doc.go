// Package hvconfig writes what boots a release from its path: a command for
// QEMU, a configuration for xl, a domain for libvirt. It does no I/O: what is
// known of the release comes as a description and the facts of its files.
//
// # What a description may decide
//
// It comes from a stranger (C4), and what is written here is given to programs
// that run as root. Therefore only this is taken of it: amounts of memory and
// processors, architecture, firmware, which of the release's own files are
// drives, their bus and order, models of network cards, and, if the kernel is a
// file of the release, ramdisk and kernel command line, which concern the guest
// alone. Name, UUID and MAC address are not: a domain defined under those of
// another machine would take its place. Nor are networks and bridges: guests get
// QEMU's user network, with xl none, unless the administrator names one. Formats are those that
// the content shows, never those that the description claims, and are always
// written out, so that nobody guesses (C3). A file that names other files, as
// a qcow2 with a backing file does, is refused.
//
// # Writing
//
// The release is read-only. So QEMU gets its drives with snapshot=on, which
// keeps what the guest writes in a temporary file; libvirt and xl get them
// read-only, and no swap. With [Options.Overlay] each disk gets a qcow2 overlay in
// that directory, and the one line that makes it is written too:
//
//	[ -e O.qcow2 ] || qemu-img create -q -f qcow2 -F raw -b /srv/vmcast/debian-12.5/root.img O.qcow2
//
// IDE and SATA disks cannot be read-only: without overlays libvirt gets them as
// virtio, xl as SCSI.
//
// # Buses, root and console
//
// A drive is on virtio unless its bus is described. A bare name (sda1) is no bus:
// packages of Xen have them, and small kernels have no driver for AHCI. Only an hda
// that boots by itself is on IDE. root= and resume= become what the guest calls the
// drive: sda1, xvda1 and vda1 are one place. An HVM guest of xl calls it xvda, too:
// the drivers of Xen unplug the emulated disks.
// console= gets the guest's end of what the hypervisor shows: the serial line, or
// hvc0. It comes last, which makes it /dev/console; those of the package stay.
//
// # Partition images
//
// The drafts' packages hold images of partitions, without a partition table and
// without a boot loader: no firmware boots them. They need a kernel, from the
// package or from the administrator ([Options.Kernel]). Xen attaches them as
// partitions (xvda1). QEMU and libvirt get one drive with a partition table, if
// the release has such a file made of them ([Joined]), but libvirt not if it would
// hold swap that is read-only; else each image is a disk of its own. pygrub, which
// would look for a kernel within the image, is never configured: it parses a
// stranger's file system with the rights of dom0.
//
// # Quoting
//
// Paths with control characters are refused. Words for the shell are put in
// single quotes unless they are harmless, commas in options of QEMU are doubled,
// XML is escaped, strings of xl get backslashes.
package hvconfig
