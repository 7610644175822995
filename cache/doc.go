/*
Package cache makes the missing blocks of a file present. It joins a file on
the local disk (package store) with a source of its bytes: each block is fetched
once whoever asks, checked, handed to all that wait for it, written to disk, and
never asked for again.

# Words

  - A flight is one block on its way.
  - A region is what is fetched around a miss, aligned to itself. It is 512 KiB,
    256 if the first byte comes within 2 ms, 128 within 1 ms: the origin is near.
  - A forward source produces its bytes only forward: an inflating reader, a
    server without ranges. Its runner makes passes from [source.Forward] Start on.
  - A profile is what an earlier boot read, in order.
  - Completion walks over a file in order, makes it present and computes its sums.
  - The standing of a file is what is known of it as a whole.
  - A sum is of the whole file, a block sum of one block.
  - The memory tier holds checked blocks for reads of less than a block.

# The way of a read

File.ReadAt asks the standing whether the block may be served, and looks in
memory and on disk. If the block is missing, the reader joins or makes its
flight. Fetches run on the file's own context: a reader that gives up ends its
waiting, not the fetch that others wait for. Waiters get the block before it is
written to disk. A failure wakes all of them with the error, once; the next
reader tries anew. Nothing is retried here, for sources do that themselves. A
source that panics has failed.

A full disk never fails a read: the block is served, and memory may keep it. A
block that the disk has changed is absent, and fetched again. A block that does
not match its sum is fetched once more, then it fails alone, with a *BlockError.

# What is fetched

A demanded range begins with what is waited for and goes on to the end of its
region; what precedes it in the region is a range beside it, unless the origin is
near. Each handle recognizes up to eight sequential readers and fetches ahead of
them, at most 8 MiB: as far as they have come, or twice as far if the origin is not
near. It learns whether regions pay: when reads are random, misses fetch their
blocks only. A profile is fetched in its order, ahead of the readers, from the time
that it is known (File.Follow). It is given up after 32 misses in a row outside of
it. At most eight ranges of an origin that no reader asked for are under way, 64 of
all. One that finds no slot is not begun: nobody ever waits behind read-ahead. One
below 64 KiB/s yields to an origin that lacks a slot. See TestReplayBoot.

# What is served

The states of a file stand at the type standing. A block with a sum of its own
is compared as it comes. Where only the whole has a sum, blocks are served as
they come. The last missing one is handed out only after the whole has matched:
so nobody reads all of a corrupt file. A walk follows the readers and hashes
what they bring, so that this costs a sequential reader nothing. With
Spec.Complete it also fetches what is missing, when no reader has missed for
Options.Quiet, or after 15 times that. Under Strict no block is served before
the whole was checked.

A check that has matched gives the file its block sums (Spec.Learned): a block
that is lost later, and fetched again, is compared with those. Spec.Copies may
know another file of the store that has a block with the same sum: it is
compared, and copied instead of fetched. What a forward source gave is withdrawn
when the source finds that it was wrong. In a verified file that the kernel
reads by itself (File.PassthroughFile), a block that was found damaged is
fetched again within seconds. In a file larger than the cache no block is the
last missing one. Only Complete and Strict find a wrong byte of it.

# Several processes

Processes that share a directory fetch a block once in the common case: before a
range is fetched its blocks are claimed in the store. A claim is a hint. A process
waits for another one's block about as long as its own fetch would take, and then
goes ahead alone.

# Locks

All methods may be called concurrently. The order is File.use (for reading by
every method, for writing by Close), Cache.mu, completion.mu or flights.mu, then
standing.mu or tasks.mu, then the store's own. tracker.mu stands alone. Only
File.use is held while waiting for a fetch, and none while calling Source.Fetch.
*/
package cache
