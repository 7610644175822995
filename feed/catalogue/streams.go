package catalogue

import (
	"cmp"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Root is the directory that the paths of simplestreams count from, by the address of their
// index or of a list of products.
func Root(index *url.URL) (*url.URL, error) {
	at := strings.LastIndex(index.Path, "/streams/v1/")
	if at < 0 {
		return nil, bad("the address of simplestreams has /streams/v1/ in it")
	}
	root := *index
	root.Path, root.RawPath, root.RawQuery, root.Fragment = index.Path[:at+1], "", "", ""
	return &root, nil
}

// IsIndex tells whether a document of simplestreams is an index, and not products.
func IsIndex(doc []byte) (bool, error) {
	format := ""
	r := newReader(doc)
	err := r.object("the catalogue", func(key string) error {
		if key == "format" {
			return r.text(&format)
		}
		return r.skip()
	})
	switch {
	case err != nil:
		return false, err
	case format == "index:1.0", format == "products:1.0":
		return format == "index:1.0", r.end()
	}
	return false, bad("its format is %s, and not index:1.0 or products:1.0", quoted(format))
}

// List is a list of products that an index names. ID is what the list calls itself.
type List struct {
	ID  string
	URL *url.URL
}

// Index lists where the products of images are that an index names.
func Index(doc []byte, root *url.URL) (lists []List, err error) {
	r := newReader(doc)
	var paths, ids []string
	err = r.object("the index", func(key string) error {
		if key != "index" {
			return r.skip()
		}
		return r.object("the index", func(name string) error {
			datatype, file := "", ""
			err := r.object(quoted(name), func(key string) error {
				switch key {
				case "datatype":
					return r.text(&datatype)
				case "path":
					return r.text(&file)
				}
				return r.skip()
			})
			if err == nil && datatype == "image-downloads" {
				paths, ids = append(paths, file), append(ids, name)
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, bad("the index names no products of images (datatype image-downloads)")
	}
	if len(paths) > 64 {
		return nil, bad("the index names %d lists of products", len(paths))
	}
	for i, p := range paths {
		u, err := resolve(root, p)
		if err != nil {
			return nil, err
		}
		lists = append(lists, List{ids[i], u})
	}
	return lists, nil
}

// Products adds the images of a list of products that are wanted to items. id is what the
// index calls the list, "" without one: another list of the publisher, which has as good a
// signature, is not taken in its place.
func Products(items []Item, doc []byte, root *url.URL, id string, wanted Filter) ([]Item, error) {
	r := newReader(doc)
	own := id
	err := r.object("the products", func(key string) error {
		switch key {
		case "content_id":
			return r.text(&own)
		case "products":
		default:
			return r.skip()
		}
		return r.object("the products", func(name string) error {
			found, err := r.product(name)
			for _, f := range found {
				if !usable(f.path) || !wanted.matches(&f.Item, path.Base(f.path)) {
					continue
				}
				it, err := f.item(root)
				if err != nil {
					return err
				}
				if items = append(items, it); len(items) > maxItems {
					return bad("more than %d images", maxItems)
				}
			}
			return err
		})
	})
	if err == nil && id != "" && own != id {
		err = bad("it is the list %s, and the index names %s here", quoted(own), quoted(id))
	}
	if err != nil {
		return nil, err
	}
	return items, r.end()
}

// found is an item as its catalogue has it.
type found struct {
	Item
	path, size string
	sums       []Sum
}

// fields are those of a product, a version or an item. Each has those of what it is in.
func (r *reader) field(key string, f *found) (ok bool, err error) {
	for name, at := range map[string]*string{"arch": &f.Arch, "os": &f.OS, "release": &f.Release, "ftype": &f.Kind, "path": &f.path} {
		if key == name {
			return true, r.text(at)
		}
	}
	return false, nil
}

func (r *reader) product(name string) (all []found, err error) {
	top := found{}
	err = r.object(quoted(name), func(key string) error {
		if key == "versions" {
			return r.object(quoted(name), func(version string) error {
				v := found{Item: Item{Version: version}}
				var items []found
				err := r.object(quoted(version), func(key string) error {
					if key == "items" {
						return r.items(&items)
					}
					if ok, err := r.field(key, &v); ok {
						return err
					}
					return r.skip()
				})
				for i := range items {
					items[i].Version = version
					items[i].inherit(&v)
				}
				all = append(all, items...)
				return err
			})
		}
		if ok, err := r.field(key, &top); ok {
			return err
		}
		return r.skip()
	})
	usableIn := map[string]int{} // by version
	for i := range all {
		all[i].inherit(&top)
		if usable(all[i].path) {
			usableIn[all[i].Version]++
		}
	}
	for i := range all {
		f := &all[i]
		f.Product, f.Date = name, dateIn(f.Version)
		f.Name = strings.Join(append(nameParts(name, f.OS), f.Version), "-")
		if usableIn[f.Version] > 1 {
			f.Name += "-" + cmp.Or(f.Kind, path.Base(f.path))
		}
	}
	return all, err
}

// nameParts are what of a product's name is worth reading: com.ubuntu.cloud:server:22.04:amd64
// is ubuntu-server-22.04-amd64.
func nameParts(product, os string) []string {
	parts := strings.Split(product, ":")
	if len(parts) > 1 && strings.Count(parts[0], ".") > 0 && !strings.ContainsAny(parts[0], "0123456789") {
		parts = parts[1:]
		if os != "" && !slices.Contains(parts, os) {
			parts = append([]string{os}, parts...)
		}
	}
	return parts
}

func (f *found) inherit(from *found) {
	f.Arch, f.OS, f.Release = cmp.Or(f.Arch, from.Arch), cmp.Or(f.OS, from.OS), cmp.Or(f.Release, from.Release)
}

func (r *reader) items(all *[]found) error {
	return r.object("the items", func(name string) error {
		f := found{size: "-1"}
		err := r.object(quoted(name), func(key string) error {
			if ok, err := r.field(key, &f); ok {
				return err
			}
			switch {
			case key == "size":
				return r.number(&f.size)
			case digits[key] > 0:
				sum := ""
				err := r.text(&sum)
				f.sums = append(f.sums, Sum{key, sum})
				return err
			}
			return r.skip()
		})
		f.Kind = cmp.Or(f.Kind, name)
		*all = append(*all, f)
		return err
	})
}

// item checks what is wanted.
func (f found) item(root *url.URL) (it Item, err error) {
	it = f.Item
	if it.Size, err = size(it.Name, f.size); err != nil {
		return it, err
	}
	if it.URL, err = resolve(root, f.path); err != nil {
		return it, err
	}
	for _, s := range f.sums {
		if err := it.add(s.Algo, s.Hex); err != nil {
			return it, err
		}
	}
	if len(it.Sums) == 0 {
		return it, bad("%s has no sum that proves it (sha256 or better)", quoted(it.Name))
	}
	return it, nil
}
