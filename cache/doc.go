/*
Package cache makes the missing blocks of a file present. It joins a file on
the local disk (package store) with a source of its bytes: each block is fetched
once whoever asks, checked, handed to everyone who waits, written to disk, and
never asked for again.

	c, err := cache.New(cache.Options{Store: st, Memory: 32 << 20})
	f, err := c.Open(cache.Spec{Key: key, Size: size, Source: object, Sums: sums})
	n, err := f.ReadAt(ctx, p, off)

# The way of a read

ReadAt looks for each block in memory, then on disk. If it is in neither, the
reader joins or makes the block's entry in the in-flight table of the file, and
waits for it. Fetches run on the file's own context: a reader that gives up ends
its waiting, not the fetch that others wait for.

An entry is in one of these states:

	wanted ──► arriving ──► handed over ──► on disk, and out of the table
	   └───────────┴──────► failed: out of the table, block absent

It is handed over before it is written: who waits does not wait for the disk.
It leaves the table only after the write, so whoever looks finds the block in
the table or on the disk, and nobody fetches it a second time. A failure wakes
everyone who waited with the error, once. Who comes later tries anew; nothing is
retried here, for sources do that themselves. A source that panics has failed.

A block that does not match its sum (Spec.Blocks) is dropped and fetched once
more, then it fails with a *BlockError, alone. A block that the disk no longer
has as it was written is absent, and fetched again. A block that the disk has no
room for is served all the same, and memory may keep it; no read-ahead is done
while the disk is full.

# What is fetched

A demanded run of blocks is a range that begins with what is waited for and goes
on to the end of its aligned region (512 KiB); what precedes it in the region is
a second range beside it. Adjacent misses of one read are one range. Each block
is served as soon as its last byte is here. Replaying the recorded boot of
package boottrace against a modelled link (TestReplayBoot):

	                                      30 ms, 100 Mbit/s    1 ms, 1 Gbit/s
	regions of 256 KiB                    8.0 s   56 MB        0.50 s
	regions of 512 KiB                    6.5 s   70 MB        0.57 s
	  the rest after the demanded block   7.9 s   71 MB        0.60 s
	  ... beside it                       6.8 s   69 MB        0.58 s
	regions of 1 MiB                      7.8 s   94 MB        0.77 s

Each handle recognizes up to eight sequential readers. One that has come further
than a region gets twice as far ahead as it has come, at most 8 MiB, in parallel
ranges of 1 MiB; so a cold sequential read takes what one stream takes
(TestSequentialCold). Each handle also learns whether regions pay: when reads
are random, and regions are not looked at again, misses fetch their blocks only.

A profile says what an earlier boot read, in order (File.Follow). From the first
read of one of its blocks on they are fetched in that order, in ranges of up to
512 KiB, ahead of the readers: 2 MiB at first, further the more of it they use,
16 MiB at most beyond what they used. A block of the profile that a reader comes
to first is fetched alone. While a demanded range is under way only one of the
profile's is begun; so a demanded block shares the wire with the ranges that were
there before it, at most eight, and no others: it comes no later than one range of
512 KiB would make it (TestFollowDoesNotDelayDemand). After 32 misses in a row
outside of the profile it is given up. The replay above then takes 3.3 s and 41 MB, or 0.33 s: the blocks
read, at the speed of the wire.

At most eight ranges that no reader asked for are under way in a cache at a
time, and one that finds no slot is not begun: nothing queues, so nobody ever
waits behind read-ahead. A range holds one buffer of one block.

A fetch that nobody waits for goes on while it makes progress. After
Options.Abandon without any it is ended. The last Close of a file ends all its
fetches and waits for them.

# Forward sources

A Forward source (an inflating reader, a server without ranges) has one runner
per file, which makes passes from Source.Start on and keeps all that it
produces. It goes for what is most urgent, and of that for what was asked for
first; it goes on to the end of the region and of a sequential reader's window;
it starts anew for what lies behind it, or when a later start saves at least
1 MiB. With Spec.Whole a pass runs to the end of what is missing. When the
source ends, a size that was unknown is known; an earlier end than the declared
one is a *SizeError, and a later one proves the file corrupt. Only io.EOF is an
end: a source that was cut off must say something else.

# Completion is verification

	partial ──all here, sums match──► verified   (unverified without sums)
	   │  ▲                              │
	   │  └──── a block was lost ────────┘
	   └────── a sum differs ──► corrupt: sticky, also after a restart

File.Complete walks over the blocks in order, fetches what is missing at
Background urgency, and computes all sums in another goroutine. In the
background (Spec.Complete) it fetches only when no reader of the cache has
missed for Options.Quiet, or after 15 times that, 4 MiB at a time; what readers
have brought it takes from the disk. The verdict is kept by the store, so a
verified file is not hashed again. When a block of it has been lost (evicted, or
damaged on disk) and fetched again, only a new completion can vouch for it, and
the file is partial until then. A verified file that the kernel reads by itself
(File.PassthroughFile) loses nothing to eviction; when another process has found
a block of it damaged (store.Verify), the block is fetched and written again
within some seconds, under the kernel's eyes. Under Strict no read is served
before the whole was checked; where the disk cannot keep all of it (full, too
small, failing), from then on every block that is fetched again is compared with
its sum of that time.

# The memory tier

Ristretto holds checked blocks, bounded in bytes, for readers of less than a
block: O_DIRECT guests that read 4 KiB would otherwise read and checksum 64 KiB
each time. Reads of whole blocks pass it by; the kernel's page cache holds those.
It may forget or refuse anything: nothing else depends on it. Its buffers are
counted and pooled like all others, so it makes no garbage. Random 4 KiB reads
of a local file (BenchmarkRandom4K, 2 cores Xeon, 2026-11-22): 0.55 µs with it,
7.2 µs without; no allocation in either.

# Block sums

With Spec.Blocks each block is compared before anyone sees it, in pass or out of
order, and a file whose every block has a sum is verified once all are here:
nothing is hashed a second time. Completion goes past a block that is wrong, so
that one bad block costs that block only; the file stays partial then, and the
error is in its Status. Spec.Copies may know another file of the store that has
a block with the same sum: it is compared, and then copied instead of fetched,
sharing the disk space where the filesystem can. Of a file without sums that is
found to be verified, the sums are computed beside the check of the whole; from
then on they count, and Spec.Learned gets them (a SumTable) for the next time it
is opened. So what is fetched again after an eviction is checked block by block,
and so is what the disk had no room to keep.

# Several processes

Processes that share a directory fetch a block once in the common case: before
a range is fetched its blocks are claimed in the store, and who finds a claim
waits for the block. The stream of a server without ranges is claimed as a whole.
Claims are advice: after Options.Abandon without a result, a process goes ahead
alone.

# Locks

File.use (for reading by every method, for writing by Close), Cache.mu,
content.mu, then the store's own; tracker.mu stands alone. No lock but File.use
is held while waiting for a fetch, and none while calling Source.Fetch. Under
content.mu are called: the store (memory, now and then a journal), BlockSums.Sum
and Forward.Start, which must not call back.

# Room for a boot profile

What a first boot reads can be recorded where File.read calls tracker.note, and
prefetched in that order by fetchAhead: it takes slots, never queues, and gives
way to demand as read-ahead does.
*/
package cache
