// Command vmcastfs-bench measures a vmcastfs binary through real mounts. `bash
// .ci/bench` builds both and runs it; flags are passed on.
//
// # What is measured
//
// A raw disk image of 1 GiB, made afresh from fixed numbers (image.go), is
// served inside an XVM package by package origin over a modelled network: WAN
// is 30 ms and 100 Mbit/s, LAN 1 ms and 1 Gbit/s, each shared by all
// connections, a new connection costing one more round trip. Only loopback
// addresses are used. The yardstick is testdata/boot.trace: the 821 reads, 34
// MB, of a Debian machine booting from such an image, which are read one after
// the other by pread from the path, and compared with the image. Time counts
// from open(2), so finding the image in the package is part of it; bytes are
// those of bodies that the origin had sent by the end of the last read.
//
// Everything runs on one machine, origin and replay included; so compare
// ratios within a run rather than figures of different machines. The tests
// are run N times in turn, and medians shown.
package main
