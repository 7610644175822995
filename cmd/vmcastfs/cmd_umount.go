package main

import (
	"fmt"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"vmcastfs/fs"
)

// umountCommand is `vmcastfs umount [-l] DIR`.
func umountCommand(e *env) *cobra.Command {
	var lazy bool
	cmd := &cobra.Command{
		Use:     "umount [-l] DIR",
		Aliases: []string{"unmount"},
		Short:   "unmount a feed",
		Long: `umount ends the mount on DIR, as umount(8) and fusermount3 -u do too. While
files in it are open it fails; -l detaches it at once and lets those who have
files open finish.`,
		Args:              exactArgs(1, "a DIR"),
		ValidArgsFunction: completeMount,
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := filepath.Abs(args[0])
			if err != nil {
				return usagef("%w", err)
			}
			if fs.IsStale(dir) {
				return withCode(exitMount, fs.CleanStale(dir))
			}
			switch err := fs.UnmountDir(dir, lazy); err {
			case nil:
				return nil
			case syscall.EBUSY:
				return withCode(exitMount, fmt.Errorf("%s is in use: close what is open there, or detach it with umount -l", args[0]))
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
