package bases

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Record says what a machine was made of. Its JSON form is the content of
// machine.json: fields are added, not renamed.
type Record struct {
	Version    int       `json:"version"` // 1
	Name       string    `json:"name"`    // of the machine, and of its directory
	Feed       string    `json:"feed"`    // as status.json has it
	GUID       string    `json:"guid"`    // of the item
	Release    string    `json:"release"` // its directory in the mount
	Generation uint64    `json:"generation,omitempty"`
	Mount      string    `json:"mount"`  // the directory of the mount
	Engine     string    `json:"engine"` // qemu, libvirt or xl
	Disk       string    `json:"disk"`   // qcow2, raw or snapshot
	Images     []Image   `json:"images"`
	MemoryMiB  int       `json:"memory_mib,omitempty"` // 0: as the description says
	CPUs       int       `json:"cpus,omitempty"`       // 0: as the description says
	Network    string    `json:"network,omitempty"`
	Kernel     string    `json:"kernel,omitempty"` // given by the administrator; "": the release's
	Initrd     string    `json:"initrd,omitempty"`
	Append     string    `json:"append,omitempty"`
	Created    time.Time `json:"created"`
}

// Image is a base and the disk that lies on it.
type Image struct {
	File   string `json:"file"`   // in the release
	Format string `json:"format"` // QEMU's name of the driver
	Size   int64  `json:"size"`   // bytes of the file
	// Digest is "ALGORITHM:HEX" of the file, as user.vmcast.digest has it.
	Digest string `json:"digest"`
	// Keys are those of the images in the cache, several for a joined disk.
	Keys []string `json:"keys,omitempty"`
	Disk string   `json:"disk"` // its file in disks/, beside the record
}

// Limits of a record.
const (
	maxRecord  = 64 << 10 // bytes
	maxImages  = 26
	maxText    = 4096 // bytes of one text
	maxName    = 64
	maxKeys    = 32
	version    = 1
	recordName = "machine.json"
)

var (
	namePattern   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+-]*$`)
	digitsPattern = regexp.MustCompile(`^[0-9]+$`)
	digestPattern = regexp.MustCompile(`^[a-z0-9-]{2,16}:[0-9a-f]{32,128}$`)
	keyPattern    = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

// CheckName refuses what cannot be the name of a machine: libvirt and xl must take
// it for a name, and the file system for one component.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a machine needs a name")
	case len(name) > maxName:
		return fmt.Errorf("the name %.20q… is longer than %d characters", name, maxName)
	case !namePattern.MatchString(name):
		return fmt.Errorf("%q cannot be the name of a machine: letters, digits and . _ + - make one, and it begins with a letter or digit", name)
	case digitsPattern.MatchString(name):
		return fmt.Errorf("%q cannot be the name of a machine: libvirt and xl take a number for the ID of a running one", name)
	}
	return nil
}

// Parse reads a record, and refuses one that [Record.Check] does.
func Parse(raw []byte) (*Record, error) {
	if len(raw) > maxRecord {
		return nil, fmt.Errorf("it has more than %d bytes", maxRecord)
	}
	r := new(Record)
	dec := json.NewDecoder(bytes.NewReader(raw))
	if err := dec.Decode(r); err != nil {
		return nil, fmt.Errorf("it is damaged: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is damaged: something follows its end")
	}
	return r, r.Check()
}

// Check tells what is wrong with a record.
func (r *Record) Check() error {
	switch {
	case r.Version > version:
		return errors.New("it was written by a newer version")
	case r.Version < 1:
		return errors.New("it is damaged: it has no version")
	}
	if err := CheckName(r.Name); err != nil {
		return err
	}
	for _, f := range []struct{ what, text string }{
		{"feed", r.Feed}, {"guid", r.GUID}, {"mount", r.Mount}, {"network", r.Network},
		{"kernel", r.Kernel}, {"initrd", r.Initrd}, {"append", r.Append},
	} {
		if len(f.text) > maxText || !utf8.ValidString(f.text) || strings.ContainsFunc(f.text, unicode.IsControl) {
			return fmt.Errorf("its %s is too long or does not print", f.what)
		}
	}
	for _, p := range []string{r.Mount, r.Kernel, r.Initrd} {
		if p != "" && (!filepath.IsAbs(p) || filepath.Clean(p) != p) {
			return fmt.Errorf("%q is no absolute path in its shortest form", p)
		}
	}
	switch {
	case r.Feed == "", r.GUID == "", r.Mount == "":
		return errors.New("it does not name feed, release and mount")
	case !component(r.Release):
		return fmt.Errorf("%q is no name of a release", r.Release)
	case !slices.Contains([]string{"qemu", "libvirt", "xl"}, r.Engine):
		return fmt.Errorf("%q is no engine known here", r.Engine)
	case !slices.Contains([]string{"qcow2", "raw", "snapshot"}, r.Disk):
		return fmt.Errorf("%q is no kind of disk known here", r.Disk)
	case r.MemoryMiB < 0 || r.MemoryMiB > 1<<24 || r.CPUs < 0 || r.CPUs > 4096:
		return errors.New("its memory or processors are out of range")
	case len(r.Images) == 0 || len(r.Images) > maxImages:
		return fmt.Errorf("it has %d images", len(r.Images))
	}
	disks := make(map[string]bool)
	for _, im := range r.Images {
		if err := im.check(); err != nil {
			return err
		}
		if disks[im.Disk] {
			return fmt.Errorf("two images have the disk %q", im.Disk)
		}
		disks[im.Disk] = true
	}
	return nil
}

func (im *Image) check() error {
	switch {
	case len(im.File) > maxText || !filepath.IsLocal(im.File) || path.Clean(im.File) != im.File || !utf8.ValidString(im.File) || strings.ContainsFunc(im.File, unicode.IsControl):
		return fmt.Errorf("%.100q is no file of a release", im.File)
	case !component(im.Disk) || strings.HasPrefix(im.Disk, ".") || im.Disk == recordName:
		return fmt.Errorf("%.100q is no file beside the record", im.Disk)
	case !component(im.Format) || !namePattern.MatchString(im.Format):
		return fmt.Errorf("%.100q is no format", im.Format)
	case im.Size < 0:
		return fmt.Errorf("the size of %q is negative", im.File)
	case !digestPattern.MatchString(im.Digest):
		return fmt.Errorf("%.140q is no digest", im.Digest)
	case len(im.Keys) > maxKeys:
		return fmt.Errorf("%q has %d keys", im.File, len(im.Keys))
	}
	for _, key := range im.Keys {
		if !keyPattern.MatchString(key) {
			return fmt.Errorf("%.100q is no key of the cache", key)
		}
	}
	return nil
}

// component tells a name that is one component of a path and prints.
func component(s string) bool {
	return s != "" && s != "." && s != ".." && len(s) <= 255 && !strings.Contains(s, "/") &&
		utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
