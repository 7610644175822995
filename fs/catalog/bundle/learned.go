package bundle

import (
	"maps"
	"sync"
)

// learned is what was found out of images since the package was indexed. It is
// kept with the document.
type learned struct {
	doc  *Doc
	save func(*Doc)

	// mu guards what follows it; it is a leaf. The maps are never written to.
	mu      sync.Mutex
	sizes   map[string]int64
	kinds   map[string]SeenImage
	decoded map[string]bool
	data    map[string]int64
}

func newLearned(doc *Doc, save func(*Doc)) *learned {
	return &learned{doc: doc, save: save, sizes: doc.Sizes, kinds: doc.Kinds, decoded: doc.Decoded, data: doc.Data}
}

// size keeps a proven plain size.
func (l *learned) size(name string, size int64) {
	l.mu.Lock()
	_, known := l.sizes[name]
	if !known {
		sizes := maps.Clone(l.sizes)
		if sizes == nil {
			sizes = make(map[string]int64)
		}
		sizes[name] = size
		l.sizes = sizes
	}
	l.mu.Unlock()
	if !known {
		l.keep()
	}
}

// kind is what an image was seen to begin with.
func (l *learned) kind(name string) (SeenImage, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, ok := l.kinds[name]
	return s, ok
}

// setKinds keeps what images begin with.
func (l *learned) setKinds(kinds map[string]SeenImage) {
	l.mu.Lock()
	l.kinds = kinds
	l.mu.Unlock()
	l.keep()
}

// decodable tells whether an image is known to be of a kind that is inflated here.
func (l *learned) decodable(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, sized := l.sizes[name]
	return sized || l.decoded[name]
}

// addDecodable keeps the names of such images.
func (l *learned) addDecodable(names []string) {
	if len(names) == 0 {
		return
	}
	l.mu.Lock()
	decoded := maps.Clone(l.decoded)
	if decoded == nil {
		decoded = make(map[string]bool)
	}
	for _, name := range names {
		decoded[name] = true
	}
	l.decoded = decoded
	l.mu.Unlock()
	l.keep()
}

// setData keeps where the package's own block list says that images have data.
func (l *learned) setData(data map[string]int64) {
	l.mu.Lock()
	l.data = data
	l.mu.Unlock()
	l.keep()
}

func (l *learned) keep() {
	doc := *l.doc
	l.mu.Lock()
	doc.Sizes, doc.Kinds, doc.Decoded, doc.Data = l.sizes, l.kinds, l.decoded, l.data
	l.mu.Unlock()
	l.save(&doc)
}
