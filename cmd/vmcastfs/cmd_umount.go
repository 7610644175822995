package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/fs"
)

// closing is how long a file may stay open that no program holds any more.
const closing = 2 * time.Second

// umountCommand is `vmcastfs umount [-l] DIR`.
func umountCommand(e *env) *cobra.Command {
	var lazy bool
	cmd := &cobra.Command{
		Use:     "umount [-l] DIR",
		Aliases: []string{"unmount"},
		Short:   "unmount a feed",
		Long: `umount ends the mount on DIR, as umount(8) and fusermount3 -u do too. While
files in it are open it fails, and names the loop devices, Xen domains and
processes that have them open; -l detaches it at once and lets them finish.`,
		Args:              exactArgs(1, "a DIR"),
		ValidArgsFunction: completeMount,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			if fs.IsStale(dir) {
				for _, l := range loopDevices(cmd.Context(), dir) {
					if l.domain == "" {
						fmt.Fprintf(e.stderr, "vmcastfs: %s is left of a guest with %s, end it: losetup -d %s\n", l.device, l.file, l.device)
					}
				}
				return withCode(exitMount, fs.CleanStale(dir))
			}
			who := "something there is open"
			err = fs.UnmountDir(dir, lazy)
			// A file that a program had open may be closed a moment after its end.
			for end := time.Now().Add(closing); err == syscall.EBUSY && time.Now().Before(end); err = fs.UnmountDir(dir, lazy) {
				if real, err := filepath.EvalSymlinks(dir); err == nil {
					dir = real
				}
				if found := holders(cmd.Context(), dir); len(found) > 0 {
					who = "held by " + strings.Join(found[:min(len(found), 10)], ", ")
					break
				}
				time.Sleep(closing / 20)
			}
			switch err {
			case nil:
				return nil
			case syscall.EBUSY:
				return withCode(exitMount, fmt.Errorf("%s is in use, %s: end that, or detach the mount with umount -l", args[0], who))
			case syscall.EINVAL:
				return withCode(exitMount, fmt.Errorf("nothing is mounted on %s", args[0]))
			default:
				return withCode(exitMount, fmt.Errorf("unmount %s: %w", args[0], err))
			}
		},
	}
	cmd.Flags().BoolVarP(&lazy, "lazy", "l", false, "detach now, clean up when it is no longer in use")
	return cmd
}
