package xvm

import (
	"path"
	"strings"
)

// describes tells the files that an archive which is a package has at its root.
func describes(name string) bool {
	switch name {
	case "xvm.xml", "description.xml", ManifestName, XVAName:
		return true
	}
	switch path.Ext(name) {
	case ".ovf", ".mf":
		return !strings.Contains(name, "/")
	}
	return false
}

// packageDir is the deepest directory below which all members are. A member that describes the package must be
// directly in it, and each member must be one that may have the name that it has there; else it is "".
func (x *Index) packageDir() string {
	if len(x.Members) == 0 {
		return ""
	}
	dir := path.Dir(x.Members[0].Name)
	for i := range x.Members {
		for name := x.Members[i].Name; dir != "." && !strings.HasPrefix(name, dir+"/"); {
			dir = path.Dir(dir)
		}
		if dir == "." {
			return ""
		}
	}
	described := false
	for i := range x.Members {
		name := x.Members[i].Name[len(dir)+1:]
		if clean, _, reason := tarName(name); clean != name || reason != "" {
			return "" // a drive letter
		}
		described = described || describes(name)
	}
	if !described {
		return ""
	}
	return dir
}

// enter makes that directory the root. Names that differ go on to differ, since all lose the same.
func (x *Index) enter() {
	dir := x.packageDir()
	if dir == "" {
		return
	}
	x.Root = dir
	for i := range x.Members {
		m := &x.Members[i]
		m.Name = m.Name[len(dir)+1:]
		if m.Link != "" {
			m.Link = m.Link[len(dir)+1:]
		}
	}
}
