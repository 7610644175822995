package xvm

import (
	"path"
	"regexp"
	"strings"
)

// noDisk matches names of documents, signatures, kernels and ramdisks.
var noDisk = regexp.MustCompile(`\.(xml|txt|asc|sig|mf|ovf|cert|html|sidecar|md|nvram)$|` +
	`^(vmlinu[xz]|bzimage|initrd|initramfs|ramdisk|system\.map)([-._0-9].*)?$|^kernel([-._]?[0-9].*)?$`)

// NoDisk tells a file of a package that its name shows to be no disk image: a
// document, a signature, a kernel or a ramdisk.
func NoDisk(name string) bool { return noDisk.MatchString(strings.ToLower(path.Base(name))) }
