package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"vmcastfs/cmd/internal/hvconfig"
	"vmcastfs/feed/show"
	"vmcastfs/xvm"
	"vmcastfs/xvm/seekable"
)

// releaseDir is the directory of a release, in a mount or anywhere.
type releaseDir struct {
	dir   string
	root  *os.Root
	names []string // of the regular files, sorted; set by list
}

// Limits of what is looked at in a directory.
const (
	maxConfigFiles = 10000
	maxConfigDepth = 8
)

// joinedName is the disk that a mount makes of partition images.
const joinedName = "disk.img"

// indexed has a mount index the release of a directory. Listing it does not if the
// archive is compressed as a whole; asking for a file does.
func indexed(dir string) {
	_, _ = os.Lstat(filepath.Join(dir, "xvm.xml"))
}

// list finds the regular files below the directory.
func (r *releaseDir) list() error {
	indexed(r.dir)
	err := fs.WalkDir(r.root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && strings.Count(name, "/") >= maxConfigDepth:
			return fs.SkipDir
		case entry.Type().IsRegular() && !(name == joinedName && attr(filepath.Join(r.dir, name), "parts") != ""):
			r.names = append(r.names, name)
		}
		if len(r.names) > maxConfigFiles {
			return fmt.Errorf("more than %d files; is it the directory of one release?", maxConfigFiles)
		}
		return nil
	})
	slices.Sort(r.names)
	return err
}

// stored is the member that a mount inflates a file from, or "". A mount shows
// plain content by its name before it lists it.
func (r *releaseDir) stored(name string) string {
	for _, n := range r.names {
		if format, plain := seekable.PlainName(n); format != "" && plain == name && attr(filepath.Join(r.dir, n), "state") != "" {
			return n
		}
	}
	return ""
}

// listed tells whether the directory lists the file.
func (r *releaseDir) listed(name string) bool {
	_, ok := slices.BinarySearch(r.names, name)
	return ok
}

// exists also knows plain content that is not listed yet.
func (r *releaseDir) exists(name string) bool { return r.listed(name) || r.stored(name) != "" }

// attr is user.vmcast.NAME of a file, which a mount gives; "" if it has none.
func attr(path, name string) string {
	value := make([]byte, 64<<10) // the most that the kernel takes
	n, err := unix.Lgetxattr(path, "user.vmcast."+name, value)
	if err != nil {
		return ""
	}
	return string(value[:n])
}

// fetched returns a function that tells how much is here of what compressed drives
// are inflated from.
func (r *releaseDir) fetched(drives []xvm.Drive) func() (at, total int64) {
	return func() (at, total int64) {
		for _, v := range drives {
			if stored := r.stored(v.File); stored != "" {
				path := filepath.Join(r.dir, stored)
				n, _ := strconv.ParseInt(attr(path, "cached_bytes"), 10, 64)
				if info, err := os.Lstat(path); err == nil {
					at, total = at+n, total+info.Size()
				}
			}
		}
		return at, total
	}
}

// joinedDisk asks a mount for the disk that it makes of partition images.
func joinedDisk(dir string) (j hvconfig.Joined) {
	for line := range strings.Lines(attr(filepath.Join(dir, joinedName), "parts")) {
		number, file, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		part, err := strconv.Atoi(number)
		if !ok || err != nil {
			return hvconfig.Joined{}
		}
		j.Name = joinedName
		j.Parts = append(j.Parts, hvconfig.Part{Number: part, File: file})
	}
	return j
}

// description reads what describes the machine; without any it is empty.
func (r *releaseDir) description() (*xvm.Description, error) {
	candidates := []string{"xvm.xml", "description.xml"}
	for _, name := range r.names {
		if !strings.Contains(name, "/") && strings.EqualFold(filepath.Ext(name), ".ovf") {
			candidates = append(candidates, name)
		}
	}
	_, d, err := describedIn(r.root, append(candidates, xvm.XVAName)...)
	if d == nil {
		d = &xvm.Description{}
	}
	return d, err
}

// describedIn is the first file of these names that there is, and the machine that it
// describes; nil: there is none.
func describedIn(root *os.Root, names ...string) (string, *xvm.Description, error) {
	for _, name := range names {
		f, err := root.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return name, nil, err
		}
		raw, err := io.ReadAll(io.LimitReader(f, xvm.MaxDescriptionSize+1))
		f.Close()
		if err != nil {
			return name, nil, err
		}
		d, err := xvm.ParseDescription(raw)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return name, d, err
	}
	return "", nil, nil
}

// sniffHead is what is read of an image: of a VHDX both headers.
const sniffHead = max(xvm.SniffHead, 192<<10)

// lookAt recognizes an image by its first bytes, and by its last ones if reading
// them inflates nothing.
func (r *releaseDir) lookAt(ctx context.Context, name string) (hvconfig.File, error) {
	stored := r.stored(name)
	from := name
	if stored != "" && !r.listed(name) {
		from = stored
	}
	f, err := r.root.Open(filepath.FromSlash(from))
	if err != nil {
		return hvconfig.File{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hvconfig.File{}, err
	}
	size := info.Size()
	var head, tail []byte
	if from != name {
		format, _ := seekable.PlainName(stored)
		head, err = inflateHead(ctx, format, f, size)
	} else {
		head = make([]byte, min(size, sniffHead))
		if _, err = f.ReadAt(head, 0); err == nil && stored == "" {
			tail = make([]byte, min(size, xvm.SniffTail))
			_, err = f.ReadAt(tail, size-int64(len(tail)))
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return hvconfig.File{}, err
	}
	boot := len(head) >= 512 && head[510] == 0x55 && head[511] == 0xaa
	return hvconfig.File{Name: name, Disk: xvm.Sniff(head, tail), Boot: boot}, nil
}

// inflateHead is the beginning of the plain content of a compressed file.
func inflateHead(ctx context.Context, format seekable.Format, f *os.File, size int64) ([]byte, error) {
	r, err := seekable.Open(format, fileArchive{f}, size, seekable.Options{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s, err := r.Stream(ctx, 0)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(io.LimitReader(s, sniffHead))
}

// explain adds to an error with a file of the release, or with the release itself
// (""), what the mount knows of it.
func (r *releaseDir) explain(ctx context.Context, name string, err error) error {
	if errors.Is(err, seekable.ErrCorrupt) {
		return fmt.Errorf("%s: %s: %w", r.dir, show.Text(cmp.Or(r.stored(name), name)), err)
	}
	err = fmt.Errorf("%s: %w", r.dir, err)
	mounts, findErr := findMounts(r.dir)
	if findErr != nil {
		return err
	}
	m := &mounts[0]
	m.look(ctx)
	release, _ := filepath.Rel(m.Dir, r.dir)
	if m.Status == nil {
		return err
	}
	why, names := "", []string{name, r.stored(name)}
	for _, s := range m.Status.Releases {
		if s.Name != release {
			continue
		}
		if s.Trust != nil && s.Trust.Refused != "" {
			why = s.Trust.Refused + ". Mount with the key of its publisher in keyring=, or without checking signatures by sig=ignore"
		} else if s.Error != "" {
			why = s.Error
		}
		for _, f := range s.Files {
			switch {
			case why != "" || !slices.Contains(names, f.Name):
			case f.Refused != "":
				why = f.Refused
			case f.State == "corrupt":
				why = fmt.Sprintf("%s is corrupt: %s", f.Name, f.Note)
			case f.LastError != "":
				why = f.LastError
			}
		}
	}
	if why == "" && errors.Is(err, fs.ErrPermission) && name != "" {
		why = name + " names other files (a backing file or an extent), which a hypervisor would open on this host. " +
			"If you trust it: mount with allow_external, and give config --allow-external"
	}
	if why == "" {
		return err
	}
	return fmt.Errorf("%s: %s", r.dir, show.Text(why)) // it says more than "permission denied"
}
