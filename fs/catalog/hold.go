package catalog

import "vmcastfs/cache/store"

// A hold is why a release stays though the feed drops it.
type hold struct {
	open, pinned, cached bool
	unknown              bool // the disk did not tell which images are of it
	machines             []string
	pins                 map[store.Key]bool // images
}

// firm tells of more than cached data.
func (h hold) firm() bool { return h.open || h.pinned || len(h.machines) > 0 }

// reasons are the words of status.json.
func (h hold) reasons() (words []string) {
	for _, x := range []struct {
		is   bool
		word string
	}{{h.open, "open"}, {h.pinned, "pinned"}, {h.cached, "cached"}} {
		if x.is {
			words = append(words, x.word)
		}
	}
	for _, m := range h.machines {
		words = append(words, "machine "+m)
	}
	return words
}
