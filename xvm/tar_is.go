package xvm

import "strings"

// IsTar tells by its first 512 bytes whether a file is a tar archive: they are
// a header whose checksum is right. An archive without members is none here.
func IsTar(head []byte) bool {
	if len(head) < tarBlockSize {
		return false
	}
	b := tarBlock(head[:tarBlockSize])
	return b.sumOK() && !b.zero()
}

// MemberName brings a file name into the form that members have, if it has one
// that can be shown: a single safe component.
func MemberName(s string) (string, bool) {
	clean, dir, reason := tarName(s)
	if dir || reason != "" || clean == "" || tarComponent(clean) != "" || strings.Contains(clean, "/") {
		return "", false
	}
	return clean, true
}
