// Package catalogue reads the catalogues of disk images that others publish: simplestreams,
// and files of sums. No mount does: a command turns a catalogue into a feed.
//
//   - catalogue: a signed text that lists images with their sums.
//   - item: one image of it.
//   - products: what simplestreams calls its lists of items; an index names them.
//   - filter: which items are wanted.
//
// A catalogue is a stranger's. What is wrong with a part of it that is wanted is an error of
// the whole: a catalogue that was tampered with is refused with the reason, and not used in
// part. Items that no mount could use, such as kernels or root archives, are passed over, and
// so is what the filter does not want.
//
// An item is at the server of its catalogue, below its directory. Nothing else can be named.
//
// # Limits
//
//	a document                64 MiB
//	items, products, lines    100,000 each, of at most 4 KiB of text
//	names                     1 KiB
//	size of an image          64 TiB
//
// Functions here have no state. They do no I/O: the caller fetches, and checks signatures.
package catalogue
