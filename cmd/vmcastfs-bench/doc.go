// Command vmcastfs-bench measures a vmcastfs binary through real mounts. `bash
// .ci/bench` builds both and runs it; flags are passed on.
//
// # What is measured
//
// A raw disk image of 1 GiB, made afresh from fixed numbers (image.go), is
// served inside an XVM package by package origin over a modelled network: WAN
// is 30 ms and 100 Mbit/s, LAN 1 ms and 1 Gbit/s, each shared by all
// connections, a new connection costing one more round trip. Only loopback
// addresses are used. The yardstick is package boottrace: the 821 reads, 34
// MB, of a Debian machine booting from such an image, which are read one after
// the other by pread from the path, and compared with the image. Time counts
// from open(2), so finding the image in the package is part of it; bytes are
// those of bodies that the origin had sent by the end of the last read.
//
// Everything runs on one machine, origin and replay included; so compare
// ratios within a run rather than figures of different machines. The tests
// are run N times in turn, and medians shown.
//
// # Results
//
// 2026-11-23, 2 cores (Xeon), Linux 6.18, go1.26.8, go-fuse 2.12.1, medians of 3
// runs of everything in turn, on a machine that did nothing else:
//
//	boot                                     WAN                   LAN
//	vmcastfs, cold                           6.86 s   71.1 MB      0.63 s
//	vmcastfs, after a remount                0.10 s    0   MB      0.09 s
//	vmcastfs, with the boot profile          3.55 s   42.2 MB      0.35 s
//	vmcastfs, own package                    1.83 s   17.9 MB      0.29 s
//	32 readers at once, cold                 6.95 s   71.3 MB      0.74 s   (1.01 and 1.16 of one)
//	two mounts sharing a cache, cold         6.95 s   72.2 MB      0.67 s
//
// At most 55 MiB of the daemon were resident in all of these. The peers, which
// read the bare image, in the same runs:
//
//	nbdkit 1.32.5 curl, readahead, cache     21.9 s   40.8 MB      1.18 s
//	rclone 1.60.1 mount, cache full          30.0 s    373 MB      3.09 s
//	QEMU 7.2 http driver                     30.1 s    168 MB      2.02 s
//	casync 2 mount, zstd chunks              64.8 s   67.0 MB      4.27 s
//	download whole, then boot                86.0 s   1074 MB      8.61 s
//	httpdirfs 1.2.5                          crashes on this trace
//
// desync is not in Debian 12 and was not measured here. Of a cold sequential read
// and curl 7.88 of the same bytes:
//
//	128 MiB, WAN        11.10 s, curl 10.81 s: 1.03
//	1 GiB, LAN           8.60 s, curl  8.60 s: 1.00
//
// Verified and complete, in parts of a local file read in turn:
//
//	                                      passthrough    without
//	sequential, neither in memory         1.19           3.77
//	sequential, first, local in memory    0.98           0.69
//	sequential, again                     0.94           0.75
//	random 4 KiB                          0.95           0.74
//
// (On busy machines the third line was 0.47 to 0.62 without passthrough.)
//
// Growth: a feed of 10 000 releases mounts in 0.82 s, ls -l takes 0.46 s and no
// request, 89 MiB resident. The first look into a tar of 10 000 files of 64 KiB
// takes 2.53 s over LAN, 41 MB and 10 000 requests; to read the 655 MB in one took
// 7.55 s. A block near the end of an image of 2 TiB comes in 0.02 s, 21 MiB
// resident. A journal of 100 GB opens in 0.2 s (package store, TestRestart).
//
// # What was tried
//
// Regions of other sizes, other shapes, or that grow where reads cluster, and
// smaller or later ranges for what is not demanded, are all slower or fetch more
// on this trace. 16 connections instead of 8 gain nothing that could be told from
// noise. The kernel's read-ahead costs: see package fs. The garbage collector
// runs five times in a boot and takes less than 1 % of it, so neither its pace
// nor a memory limit is set.
//
// The cold boot over WAN is 5.6 s of bytes on the wire, and the rest round trips
// in which nothing comes. In the model (TestReplayBoot of package cache: 6.47 s, 69.4
// MB) it was tried to
//
//	hold back the rest of a region while 512 KiB or more are under way,
//	so that demanded blocks have the wire alone           6.46 s   69.7 MB
//	  the same, two blocks more with each demanded one    6.38 s   69.3 MB
//	  from 384 KiB on                                     6.54 s   69.3 MB
//	take half a region while 384 KiB are under way        6.92 s   64.8 MB
//	  and a double one when nothing is                    6.80 s   65.8 MB
//	take half a region for a read of 4 KiB                6.79 s   63.9 MB
//	take a double one for a read of 128 KiB               6.35 s   70.4 MB
//	  for one of 64 KiB (what FUSE makes of the former)   6.51 s   73.7 MB
//
// Nothing of it pays for itself: the wire carries the same bytes, in another order.
// Connections that cost no round trip would gain 0.08 s (measured with the origin
// set so). Asking for what indexing will want at once saves a round trip of four
// there, and four of seven of a package with a block list. Serving the first 128
// KiB of an archive again from the first answer would save one more, but a block
// that is wrong in it could not be fetched anew, and each package that was looked
// at would keep them in memory.
//
// The profile's blocks once more as one contiguous member: measured by what it
// could gain at most. 17.9 MB take 1.43 s on the wire whatever their order, the
// ranges that fetch them are 160 of 105 KB, eight at a time, and the wire stands still
// only at the start and when the processors are late. Of 1.87 s (1.96 s before
// indexing asked for everything at once; medians of 3, load 2) opening is 0.2 s,
// so it could save 0.24 s at most, for a package that is 4 % larger
// and a second place of every block to sign, check and keep in step. Not done.
//
// Without passthrough a second sequential read does not reach this program: the
// kernel copies from its page cache. It took 170 to 190 ms of the reader's processor time
// for 1 GiB, and 118 ms of the local file, whose pages are in large folios (2321
// of 2341 looked at in /proc/kpageflags; of FUSE none). Of a local file in single
// pages it is 0.93 to 1.03; read-ahead from 64 KiB to 2 MiB changes nothing in that. It
// takes a kernel that gives FUSE large folios, or passthrough.
//
// Do not run this with a real-time scheduler (chrt): a Go program that spins for a
// moment then never makes way for what it waits for, and everything hangs. nice is
// enough.
package main
