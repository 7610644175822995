package xvm

import (
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	targetForm = regexp.MustCompile(`^(hd|sd|vd|xvd|ubd|fd|sr|nvme)[a-z0-9]{1,6}$`)
	numberForm = regexp.MustCompile(`^([0-9]{1,18})(\.[0-9]{1,6})?\s*([A-Za-z]*)$`)

	drivesOn  = []string{"virtio", "ide", "scsi", "sata", "usb", "xen", "nvme", "fdc", "sd"}
	nicModels = []string{"virtio", "e1000", "e1000e", "rtl8139", "ne2k_pci", "pcnet", "vmxnet3", "netfront", "igb"}
	archName  = map[string]string{
		"x86_64": "x86_64", "amd64": "x86_64", "x86-64": "x86_64", "i386": "i686", "i486": "i686", "i586": "i686", "i686": "i686", "x86": "i686",
		"aarch64": "aarch64", "arm64": "aarch64", "armv7l": "armv7l", "armhf": "armv7l", "ppc64": "ppc64", "ppc64le": "ppc64le",
		"s390x": "s390x", "riscv64": "riscv64", "mips64el": "mips64el", "loongarch64": "loongarch64",
	}
)

// oneOf returns the lower-case form of s if it is in the list, else "".
func oneOf(s string, list []string) string {
	if s = strings.ToLower(strings.TrimSpace(s)); slices.Contains(list, s) {
		return s
	}
	return ""
}

// matching returns s if it has the form, else "".
func matching(s string, form *regexp.Regexp) string {
	if s = strings.TrimSpace(s); form.MatchString(s) {
		return s
	}
	return ""
}

func cleanNICModel(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	s = strings.TrimSuffix(strings.TrimSuffix(s, "-pci"), "-net")
	return oneOf(s, nicModels)
}

// cleanCmdline keeps a kernel command line if it is printable ASCII of at most
// 2047 bytes, which is what Linux takes.
func cleanCmdline(s string) (string, bool) {
	s = strings.Join(strings.Fields(s), " ")
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r > 0x7e }) {
		return "", false
	}
	return s, len(s) <= 2047
}

// cleanFile turns what a document says of a file into the name of a member:
// relative names are brought to their canonical form, of a path of the host (as
// Archipel leaves them) the last component remains. Anything else is dropped.
func (d *Description) cleanFile(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return ""
	}
	if strings.HasPrefix(s, "/") {
		s = path.Base(s)
	}
	name, err := manifestName(s)
	clean, dir, reason := tarName(name)
	if err != nil || clean != name || dir || reason != "" || strings.ContainsAny(name, `:\`) || strings.HasPrefix(name, "-") || len(name) > 1024 || name != strings.TrimSpace(name) {
		d.warn("file %q is no member of a package", s)
		return ""
	}
	return name
}

// scales are units of memory in bytes. Decimal units are taken for the binary
// ones that their writers mean.
var scales = map[string]float64{
	"b": 1, "byte": 1, "bytes": 1,
	"k": 1 << 10, "kib": 1 << 10, "kb": 1 << 10, "kilobytes": 1 << 10,
	"m": 1 << 20, "mib": 1 << 20, "mb": 1 << 20, "megabytes": 1 << 20,
	"g": 1 << 30, "gib": 1 << 30, "gb": 1 << 30, "gigabytes": 1 << 30,
	"t": 1 << 40, "tib": 1 << 40, "tb": 1 << 40,
}

// memory reads an amount of memory as MiB, rounded up. The unit stands behind
// the number, else in unit, which also takes OVF's "byte * 2^20".
func (d *Description) memory(s, unit string) int {
	if s = strings.TrimSpace(s); s == "" {
		return 0
	}
	m := numberForm.FindStringSubmatch(s)
	if m == nil {
		d.warn("memory %q is no number", s)
		return 0
	}
	if m[3] != "" {
		unit = m[3]
	}
	unit = strings.ToLower(strings.ReplaceAll(unit, " ", ""))
	scale, ok := scales[unit]
	if power, found := strings.CutPrefix(unit, "byte*2^"); found {
		n, err := strconv.Atoi(power)
		ok, scale = err == nil && n >= 0 && n <= 40, math.Ldexp(1, n)
	}
	number, err := strconv.ParseFloat(m[1]+m[2], 64)
	mib := math.Ceil(number * scale / (1 << 20))
	if !ok || err != nil || mib < 1 || mib > maxMemoryMiB {
		d.warn("memory of %s %s is out of range", s, unit)
		return 0
	}
	return int(mib)
}

func (d *Description) cpus(s string) int {
	if s = strings.TrimSpace(s); s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > maxCPUs {
		d.warn("a number of %q processors is out of range", s)
		return 0
	}
	return n
}

func isYes(s string) bool {
	return oneOf(s, []string{"yes", "true", "1", "on", "ro", "readonly"}) != ""
}

func cleanArch(s string) string { return archName[strings.ToLower(strings.TrimSpace(s))] }
