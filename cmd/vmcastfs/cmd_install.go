package main

import (
	"bytes"
	"compress/gzip"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/spf13/cobra"
)

//go:embed dist
var dist embed.FS

// distFile is one of the files that are put in place as they are.
func distFile(name string) []byte {
	content, err := dist.ReadFile("dist/" + name)
	if err != nil {
		panic(err) // a name that is not in this program
	}
	return content
}

// installation is where `vmcastfs install` puts things. Below destdir it
// stages a package: nothing it writes mentions destdir.
type installation struct {
	*env
	prefix, destdir string
	system          bool // what needs root, too
	root            *cobra.Command
}

// thing is one entry of an installation.
type thing struct {
	path    string // absolute, without destdir
	mode    os.FileMode
	link    string // what a link holds; ""
	dir     bool
	content func() ([]byte, error) // of a file
}

func installCommand(e *env) *cobra.Command {
	in := &installation{env: e}
	var uninstall bool
	cmd := &cobra.Command{
		Use:   "install [--prefix DIR] [--destdir DIR] [--uninstall]",
		Short: "put program, mount helper, units, manual and completions in place",
		Long: `install copies this program to PREFIX/bin and adds what belongs to it: the link
/sbin/mount.vmcastfs that mount(8) calls, systemd units, manual pages, shell
completions and examples. It prints every path it makes, starts and enables
nothing, and replaces what an earlier install made. As an ordinary user, choose
a prefix such as ~/.local: the helper and the units are left out then.

--uninstall removes exactly what install made. Cache, state and what has been
put into /etc/vmcastfs stay.`,
		Example: `  vmcastfs install
  vmcastfs install --prefix /usr --destdir debian/vmcastfs
  vmcastfs install --uninstall`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			in.root = cmd.Root()
			in.system = os.Geteuid() == 0 || in.destdir != ""
			if in.prefix, err = filepath.Abs(in.prefix); err != nil {
				return usagef("%w", err)
			}
			if in.destdir != "" {
				if in.destdir, err = filepath.Abs(in.destdir); err != nil {
					return usagef("%w", err)
				}
			}
			if uninstall {
				err = in.uninstall()
			} else {
				err = in.install()
			}
			return withCode(exitSystem, err)
		},
	}
	cmd.Flags().StringVar(&in.prefix, "prefix", "/usr/local", "`dir`ectory to install under")
	cmd.Flags().StringVar(&in.destdir, "destdir", "", "`dir`ectory to stage a package in")
	cmd.Flags().BoolVar(&uninstall, "uninstall", false, "remove what install made")
	return cmd
}

func (in *installation) binary() string { return in.prefix + "/bin/vmcastfs" }

// record lists what an installation made, one path a line, the first made
// first; directories end in a slash.
func (in *installation) record() string { return in.prefix + "/share/vmcastfs/installed" }

// sbin is where mount(8) looks for helpers: /sbin, which on most systems is a
// link to /usr/sbin and then must not be made a directory by a package.
func (in *installation) sbin() string {
	if info, err := os.Lstat(in.destdir + "/sbin"); err == nil && info.IsDir() {
		return "/sbin"
	}
	return "/usr/sbin"
}

// things is everything to put in place.
func (in *installation) things() ([]thing, error) {
	file := func(path string, content []byte) thing {
		return thing{path: path, mode: 0o644, content: func() ([]byte, error) { return content, nil }}
	}
	made := func(path string, write func(w io.Writer) error) thing {
		return thing{path: path, mode: 0o644, content: func() ([]byte, error) {
			var b bytes.Buffer
			err := write(&b)
			return b.Bytes(), err
		}}
	}
	share := in.prefix + "/share"
	page := func(path string, text []byte) thing {
		return made(path, func(w io.Writer) error {
			z, _ := gzip.NewWriterLevel(w, gzip.BestCompression) // no name, no time: the same bytes each time
			_, err := z.Write(bytes.ReplaceAll(text, []byte("/usr/local/share/doc/"), []byte(share+"/doc/")))
			return errors.Join(err, z.Close())
		})
	}
	list := []thing{
		{path: in.binary(), mode: 0o755, content: func() ([]byte, error) { return os.ReadFile("/proc/self/exe") }},
		made(share+"/bash-completion/completions/vmcastfs", func(w io.Writer) error { return bashCompletion(w, in.root) }),
		made(share+"/zsh/site-functions/_vmcastfs", in.root.GenZshCompletion),
		made(share+"/fish/vendor_completions.d/vmcastfs.fish", func(w io.Writer) error { return in.root.GenFishCompletion(w, true) }),
		file(share+"/doc/vmcastfs/examples/mount.conf", distFile("example.conf")),
		file(share+"/doc/vmcastfs/examples/fstab", distFile("example.fstab")),
		file(share+"/doc/vmcastfs/examples/updatedb.conf", distFile("example.updatedb")),
		file(share+"/doc/vmcastfs/examples/grafana.json", distFile("example.grafana.json")),
	}
	pages, err := manualPages()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(pages)) {
		list = append(list, page(share+"/man/man"+name[len(name)-1:]+"/"+name+".gz", pages[name]))
	}
	if !in.system {
		return list, nil
	}
	link, err := filepath.Rel(in.sbin(), in.binary())
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(link, "../../../") { // not within the same tree
		link = in.binary()
	}
	unit := func(name string) thing {
		return file(in.prefix+"/lib/systemd/system/"+name, bytes.ReplaceAll(distFile(name), []byte("@BINARY@"), []byte(in.binary())))
	}
	return append(list,
		thing{path: in.sbin() + "/mount.vmcastfs", link: link},
		file(in.prefix+"/lib/systemd/system/libvirt-guests.service.d/vmcastfs.conf", distFile("libvirt-guests.conf")),
		unit("vmcastfs@.service"), unit("vmcastfs-verify.service"), unit("vmcastfs-verify.timer"),
		file(in.prefix+"/lib/tmpfiles.d/vmcastfs.conf", distFile("tmpfiles.conf")),
		thing{path: "/etc/vmcastfs", mode: 0o755, dir: true},
		thing{path: "/etc/vmcastfs/keys", mode: 0o755, dir: true},
	), nil
}

func (in *installation) install() error {
	things, err := in.things()
	if err != nil {
		return err
	}
	made, err := in.recorded()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, t := range things {
		if err := in.foreign(t, made); err != nil {
			return err
		}
	}
	err = in.make(things, func(path string) {
		if !slices.Contains(made, path) {
			made = append(made, path)
		}
	})
	// What was made is on record even if the rest failed, or nobody reads what is printed.
	if _, missing := os.Stat(in.destdir + filepath.Dir(in.record())); missing == nil {
		err = errors.Join(err, renameio.WriteFile(in.destdir+in.record(), []byte(strings.Join(made, "\n")+"\n"), 0o644, renameio.IgnoreUmask()))
	}
	if err != nil {
		return err
	}
	for _, t := range things {
		fmt.Fprintln(in.stdout, in.destdir+t.path)
	}
	fmt.Fprintln(in.stdout, in.destdir+in.record())
	switch {
	case in.destdir != "":
	case in.system:
		fmt.Fprintf(in.stderr, "vmcastfs: installed. `systemctl daemon-reload` makes the unit known; if updatedb runs here, see %s/share/doc/vmcastfs/examples/updatedb.conf\n", in.prefix)
	default:
		fmt.Fprintln(in.stderr, "vmcastfs: installed for this user. The helper for mount(8) and the systemd unit need root")
	}
	return nil
}

// make makes the things and notes what was not there before.
func (in *installation) make(things []thing, note func(path string)) error {
	if err := in.mkdir(filepath.Dir(in.record()), note); err != nil {
		return err
	}
	note(in.record())
	for _, t := range things {
		if err := in.mkdir(filepath.Dir(t.path), note); err != nil {
			return err
		}
		if err := in.put(t, note); err != nil {
			return fmt.Errorf("install %s: %w", t.path, err)
		}
	}
	return nil
}

// foreign refuses to replace what install did not make: it may be a package's.
func (in *installation) foreign(t thing, made []string) error {
	path := in.destdir + t.path
	info, err := os.Lstat(path)
	if err != nil || t.dir || slices.Contains(made, t.path) {
		return nil
	}
	if t.link != "" {
		if to, err := filepath.EvalSymlinks(path); err == nil && to == in.destdir+in.binary() {
			return nil
		}
	} else if self, err := os.Stat("/proc/self/exe"); err == nil && os.SameFile(info, self) {
		return nil
	}
	return fmt.Errorf("%s is there already and `vmcastfs install` did not make it: remove it, or the package it belongs to, first", path)
}

// mkdir makes a directory and those above it.
func (in *installation) mkdir(path string, note func(string)) error {
	if _, err := os.Stat(in.destdir + path); err == nil || path == "/" {
		return nil
	}
	if err := in.mkdir(filepath.Dir(path), note); err != nil {
		return err
	}
	if err := os.MkdirAll(in.destdir+path, 0o755); err != nil { // destdir itself may be missing
		return err
	}
	note(path + "/")
	return os.Chmod(in.destdir+path, 0o755)
}

func (in *installation) put(t thing, note func(string)) error {
	path := in.destdir + t.path
	switch {
	case t.dir:
		return in.mkdir(t.path, note)
	case t.link != "":
		note(t.path)
		return renameio.Symlink(t.link, path)
	}
	content, err := t.content()
	if err != nil {
		return err
	}
	note(t.path)
	return renameio.WriteFile(path, content, t.mode, renameio.IgnoreUmask()) // also over a program that runs
}

func (in *installation) recorded() ([]string, error) {
	raw, err := os.ReadFile(in.destdir + in.record())
	if err != nil {
		return nil, err
	}
	list := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	for _, path := range list {
		if filepath.Clean(path) != strings.TrimSuffix(path, "/") || !filepath.IsAbs(path) {
			return nil, fmt.Errorf("%s: %q is no path", in.destdir+in.record(), path)
		}
	}
	return list, nil
}

func (in *installation) uninstall() error {
	list, err := in.recorded()
	if errors.Is(err, os.ErrNotExist) {
		return withCode(exitFailed, fmt.Errorf("nothing is installed under %s: there is no %s", in.prefix, in.destdir+in.record()))
	} else if err != nil {
		return err
	}
	slices.Reverse(list)
	var errs []error
	// Files first: one directory may hold things made before and after it.
	for _, dirs := range []bool{false, true} {
		for _, path := range list {
			if strings.HasSuffix(path, "/") != dirs {
				continue
			}
			err := os.Remove(in.destdir + strings.TrimSuffix(path, "/"))
			switch {
			case err == nil:
				fmt.Fprintln(in.stdout, in.destdir+path)
			case errors.Is(err, os.ErrNotExist):
			case dirs: // somebody else has put something there
				fmt.Fprintf(in.stderr, "vmcastfs: %s stays: it is not empty\n", in.destdir+path)
			default:
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}
