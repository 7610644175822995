package main

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// rootCommand is `vmcastfs` with all its commands.
func rootCommand(e *env) *cobra.Command {
	root := &cobra.Command{
		Use:   "vmcastfs",
		Short: "mount a VMcast feed of virtual machines",
		Long: `vmcastfs mounts a VMcast feed: every release is a directory, and its disk
images are files that QEMU and Xen boot from at once. Only the blocks a guest
reads cross the network; they are checked and kept in a cache.`,
		Example: `  vmcastfs demo
  vmcastfs mount https://example.org/vmcast.xml /srv/vmcast
  qemu-system-x86_64 -snapshot \
    -drive file=/srv/vmcast/latest/disk.img,format=raw
  vmcastfs status /srv/vmcast`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%w; `%s --help` tells more", err, cmd.CommandPath())
	})
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", fmt.Sprint(".FlagUsagesWrapped ", helpWidth)))
	return group(root,
		mountCommand(e), umountCommand(e), listCommand(e), configCommand(e), vmCommand(e), demoCommand(e),
		installCommand(e), statusCommand(e), prefetchCommand(e), cacheCommand(e),
		packCommand(e), indexCommand(e), publishCommand(e), feedCommand(e), verifyCommand(e),
		profileCommand(e), trustCommand(e), analyzeCommand(e), uiCommand(e),
	)
}

// group makes cmd a command that only has others.
func group(cmd *cobra.Command, others ...*cobra.Command) *cobra.Command {
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usagef("unknown command %q; `%s --help` shows those that there are", args[0], cmd.CommandPath())
		}
		return nil
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	cmd.AddCommand(others...)
	return cmd
}

// version is the module's version, or the revision it was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 && (v == "" || v == "(devel)") {
			v = s.Value[:12]
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}
