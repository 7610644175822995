package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rooms says which rooms of ours each room may import. What is not named here
// may be imported by nobody but commands.
var rooms = map[string][]string{
	"cache/store":           {"cache/privdir", "cache/meter"},
	"cache/privdir":         {},
	"cache/meter":           {},
	"cache/store/storetest": {"cache/store"},
	"cache/origin":          {},
	"cache/boottrace":       {},
	"cache/testkit":         {}, // of tests alone
	"feed/show":             {},
	"feed":                  {"xvm/seekable"},
	"feed/catalogue":        {"feed"}, // of commands alone: no mount reads catalogues
	"xvm/sums":              {},
	"xvm":                   {"xvm/seekable", "xvm/sums"},
	"xvm/seekable":          {},
	"xvm/pack":              {"xvm", "xvm/seekable", "xvm/sums"},
	"cache/source":          {},
	"cache":                 {"cache/meter", "cache/source", "cache/store", "cache/tasks", "cache/trace", "xvm/sums"},
	"cache/trace":           {},
	"cache/tasks":           {},
	"cache/mirror":          {"feed/show"},
	"cache/remote":          {"cache/meter", "cache/mirror", "cache/source", "feed/show"},
	"fs/catalog/trust":      {"cache/privdir", "feed"},
	"fs/catalog/bases":      {"cache/privdir"},
	"fs/catalog/archive":    {"cache", "cache/source", "cache/store", "cache/remote", "xvm", "xvm/seekable", "xvm/sums"},
	"fs/catalog/image":      {"fs/catalog/archive", "cache", "cache/source", "cache/store", "cache/trace", "xvm", "xvm/seekable", "xvm/sums"},
	"fs/catalog/bundle":     {"fs/catalog/image", "fs/catalog/archive", "cache", "cache/source", "cache/store", "cache/remote", "feed", "xvm", "xvm/seekable", "xvm/sums", "feed/show"},
	"fs/catalog/kept":       {"cache/privdir", "cache/store", "feed"},
	"fs/catalog":            {"fs/catalog/kept", "fs/catalog/bases", "fs/catalog/bundle", "fs/catalog/image", "fs/catalog/archive", "fs/catalog/trust", "cache", "cache/mirror", "cache/store", "cache/remote", "cache/tasks", "cache/trace", "feed", "xvm", "xvm/seekable", "feed/show"},
	"fs":                    {"cache/meter", "fs/catalog", "fs/catalog/bundle", "fs/catalog/image"},
}

// everywhere is what every room may import: how foreign text is shown.
const everywhere = "feed/show"

// owners says which room alone may import a library.
var owners = map[string]string{
	"github.com/hanwen/go-fuse/":       "fs",
	"github.com/mmcdole/gofeed":        "feed",
	"github.com/dgraph-io/ristretto/":  "cache",
	"github.com/ProtonMail/go-crypto/": "xvm",
}

func TestImportsRunOneWay(t *testing.T) {
	const module = "vmcastfs/"
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "-deps", module+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(strings.NewReader(string(out)))
	seen := 0
	for {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		room, ours := strings.CutPrefix(p.ImportPath, module)
		if !ours {
			continue
		}
		seen++
		allowed, known := rooms[room]
		command := strings.HasPrefix(room, "cmd/")
		helper := strings.Contains(room, "/internal/") // of the room it lies in
		if !known && !command && !helper {
			t.Errorf("room %s is not in the plan of the rooms", room)
		}
		for _, imp := range p.Imports {
			for library, owner := range owners {
				if strings.HasPrefix(imp, library) && room != owner && !strings.HasPrefix(room, owner+"/") {
					t.Errorf("%s imports %s, which is %s's alone", room, imp, owner)
				}
			}
			to, ours := strings.CutPrefix(imp, module)
			if !ours || command {
				continue
			}
			ok := helper || strings.HasPrefix(to, room+"/internal/")
			ok = ok || to == everywhere || slices.Contains(allowed, to)
			if !ok {
				t.Errorf("%s must not import %s", room, to)
			}
		}
	}
	if seen < len(rooms) {
		t.Errorf("only %d packages of ours were listed", seen)
	}
}
