// Package catalog joins a feed, the packages its items name and the block
// cache into releases and files. It knows nothing of FUSE: the mount shows
// what it holds, and list, verify and prefetch use it directly.
//
// # From feed to bytes
//
// [Catalog.Start] loads the last good feed and refreshes it; each good feed
// becomes an immutable [Snapshot] of [Release] values. A release is indexed at
// its first use ([Release.Package]): the tar headers are walked by ranges, the
// members that describe the others (xvm.xml, manifest, signatures) are read
// whole, and all that is persisted under the item's id and URL together with
// the archive's identity, so that it happens once. A [Package] holds [File]
// values: small ones in memory, images through the cache, and for each
// compressed image "x.gz" its plain content as "x".
//
// # Generations
//
// Every byte of a package comes from one version of one archive: the identity
// (validator and length) of the first answer is pinned, remote checks it on
// each later one, and it is part of the key under which blocks are cached.
// When a server answers with another version, the release object is replaced
// by a new one that indexes afresh; open handles keep the old one, which goes
// on serving what the cache has and fails with [ErrReplaced] for the rest.
// Of an archive that is all in the cache nothing is fetched any more, so a
// conditional request of a byte at most asks besides: behind an open, once a
// minute at most, and after each look at the feed. A server that is down, or
// answers 404, does not change anything.
//
// # Waiting for a listing
//
// What a listing needs and does not have yet (an index, a plain size) is waited
// for until the server has failed for some seconds, whatever hard or soft say:
// those are for content.
//
// # Plain content
//
// "x" is inflated from the stored "x.gz" in the cache, so that its bytes cross
// the network once and the stored sums are checked on the way. Its size is
// shown only when it is known: from an XVM2 manifest, from the format (the
// index of xz, the seek table of zstd), or from having inflated the stream to
// its end. gzip's own length field is not believed: it is the length modulo
// 2^32 of the last member only. So a plain name whose size nothing tells is
// not listed at first; members up to 4 MiB are sized before the directory is
// shown, those up to 64 MiB behind it, larger ones when their plain name is
// first looked up, and that look-up waits. A size once found is persisted.
//
// # What is verified
//
// A file in memory is checked when the package is indexed. An image is checked
// while it is completed in the background, which happens as long as somebody
// has it open. Plain content counts as verified when an XVM2 manifest's sum of
// the whole matches, or when it was inflated without an error from a stored
// file that is verified. Sums of a part only, as one packager wrote them,
// leave it "unverified".
//
// # Locks
//
// Catalog.mu, Release.mu and Package.mu are leaves and never held over I/O.
// image.mu is held while a file of the cache is opened or closed, and an
// image's before its base's; wholeArchive.mu comes after image.mu. All come
// before the locks of package cache.
package catalog
