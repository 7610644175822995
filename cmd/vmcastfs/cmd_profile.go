package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vmcastfs/xvm"
)

// profileCommand is `vmcastfs profile export PATH…`.
func profileCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "profile",
		Short: "look after boot profiles",
		Long: `A boot profile says which parts of an image a boot reads, in order. A mount
records one of every image by itself, while it is booted from for the first
time (at most three minutes and 256 MiB; not with -o profile=off), and fetches
by it when the image is booted from again. Other hosts get it with
-o profile=FILE, in a package made by pack --profile FILE, or in the sidecar of
somebody else's package, made by index --profile FILE.`,
	}
	return group(cmd, &cobra.Command{
		Use:   "export DIR/RELEASE[/IMAGE]...",
		Short: "print what a live mount has recorded",
		Long: `export prints the boot profiles that a live mount has recorded, of one image or
of all of a release, as one text. The exit status is 1 if there are none.`,
		Example: `  vmcastfs profile export /srv/vmcast/debian-12/root.img > boot.profile
  vmcastfs mount -o profile=boot.profile \
    https://example.org/vmcast.xml /srv/vmcast
  vmcastfs pack --profile boot.profile -o debian.xvm xvm.xml root.img`,
		Args: someArgs(1, math.MaxInt, "DIR/RELEASE or DIR/RELEASE/IMAGE"), ValidArgsFunction: completeInMounts,
		RunE: func(_ *cobra.Command, args []string) error { return exportProfile(e.stdout, args) },
	})
}

func exportProfile(stdout io.Writer, paths []string) error {
	var all []xvm.ProfileRead
	for _, path := range paths {
		reads, err := recordedBelow(path)
		if err != nil {
			return withCode(exitFailed, err)
		}
		if len(reads) == 0 {
			return withCode(exitFailed, fmt.Errorf("%s: no boot has been recorded here; boot from it once, on a mount of vmcastfs without profile=off", path))
		}
		all = append(all, reads...)
	}
	text, err := xvm.AppendProfile(nil, all)
	if err != nil {
		return withCode(exitFailed, err)
	}
	_, err = stdout.Write(text)
	return err
}

// recordedBelow collects the recordings of an image, or of all files of a
// directory.
func recordedBelow(path string) (reads []xvm.ProfileRead, err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil { // "latest" is one
		return nil, err
	}
	err = filepath.WalkDir(path, func(file string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text := attr(file, "profile")
		if text == "" {
			return nil
		}
		of, err := xvm.ParseProfile([]byte(text))
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		reads = append(reads, of...)
		return nil
	})
	return reads, err
}

// readProfile reads the file that -o profile=FILE names.
func readProfile(path string) ([]xvm.ProfileRead, error) {
	text, err := profileText(path)
	if err != nil {
		return nil, err
	}
	return xvm.ParseProfile(text)
}

// profileText is a file that holds a boot profile.
func profileText(path string) ([]byte, error) {
	text, err := readAtMost(path, xvm.MaxProfileSize)
	if err != nil {
		return nil, fmt.Errorf("boot profile: %w", err)
	}
	if _, err := xvm.ParseProfile(text); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return text, nil
}
