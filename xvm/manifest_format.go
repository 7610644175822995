package xvm

import "strings"

// AppendGNU appends the line that md5sum, sha1sum, sha256sum or sha512sum
// prints for a file ("hex  name"), ended by a newline.
func AppendGNU(dst []byte, s Sum, name string) []byte {
	escaped, special := escapeName(name)
	if special {
		dst = append(dst, '\\')
	}
	dst = append(dst, s.Hex...)
	dst = append(dst, "  "...)
	dst = append(dst, escaped...)
	return append(dst, '\n')
}

// AppendTag appends the line that sha256sum --tag and its kin print for a file
// ("SHA256 (name) = hex"), ended by a newline.
func AppendTag(dst []byte, s Sum, name string) []byte {
	escaped, special := escapeName(name)
	if special {
		dst = append(dst, '\\')
	}
	dst = append(dst, strings.ToUpper(s.Algo)...)
	dst = append(dst, " ("...)
	dst = append(dst, escaped...)
	dst = append(dst, ") = "...)
	dst = append(dst, s.Hex...)
	return append(dst, '\n')
}

// escapeName applies the escapes of GNU coreutils and says whether any was needed.
func escapeName(name string) (string, bool) {
	if !strings.ContainsAny(name, "\\\n\r") {
		return name, false
	}
	return strings.NewReplacer(`\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(name), true
}
