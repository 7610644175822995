package xvm

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a member's name. A component is what Linux allows (NAME_MAX); the whole leaves room for a mount point
// below PATH_MAX.
const (
	tarMaxComponent = 255
	tarMaxPath      = 2048
	tarMaxDepth     = 64
)

// tarName brings a name, as an archive stores it, into the one form in which members are compared and shown: a
// relative path without empty, "." or ".." components. One leading "/" (Archipel) and any leading "./" (tar of ".")
// are dropped. dir says that it ended in a slash.
//
// reason is not empty if the name must not be shown. clean is then still what an extracting program would write to,
// so that a second entry of that name is noticed. It is "" if there is no such path. The root itself is ".".
func tarName(stored string) (clean string, dir bool, reason string) {
	s := strings.TrimPrefix(stored, "/")
	for strings.HasPrefix(s, "./") {
		s = s[2:]
	}
	for strings.HasSuffix(s, "/") {
		s, dir = s[:len(s)-1], true
	}
	if s == "" || s == "." {
		if stored == "" {
			return "", false, "it has no name"
		}
		return ".", true, ""
	}
	parts := strings.Split(s, "/")
	if slices.Contains(parts, "..") {
		return "", dir, `its name has a ".." in it`
	}
	clean = strings.TrimPrefix(path.Clean("/"+s), "/")
	if clean == "" {
		return ".", true, ""
	}
	switch {
	case len(s) > tarMaxPath:
		return clean, dir, "its name is too long"
	case len(parts) > tarMaxDepth:
		return clean, dir, "its name has too many components"
	case clean != s:
		return clean, dir, "its name is not canonical"
	}
	for _, p := range parts {
		if reason = tarComponent(p); reason != "" {
			return clean, dir, reason
		}
	}
	if len(s) >= 2 && s[1] == ':' && unicode.IsLetter(rune(s[0])) {
		return clean, dir, "its name has a drive letter"
	}
	return clean, dir, ""
}

// tarComponent says why one component of a name must not be shown. Commas end the file name in a QEMU -drive option,
// a leading dash makes the name an option of whatever command it is given to.
func tarComponent(p string) string {
	switch {
	case len(p) > tarMaxComponent:
		return "its name has a component of more than 255 bytes"
	case !utf8.ValidString(p):
		return "its name is not UTF-8"
	case strings.HasPrefix(p, "-"):
		return "its name begins with a dash"
	case strings.Contains(p, `\`):
		return "its name has a backslash in it"
	case strings.Contains(p, ","):
		return "its name has a comma in it"
	}
	for _, r := range p {
		if !unicode.IsPrint(r) {
			return "its name has a character that does not print"
		}
	}
	return ""
}
