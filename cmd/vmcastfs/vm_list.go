package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"vmcastfs/cmd/internal/machines"
	"vmcastfs/feed/show"
	"vmcastfs/fs/catalog/bases"
)

// listedMachine is a machine as `vm list --json` prints it.
type listedMachine struct {
	*bases.Record
	Directory string `json:"directory"`
	State     string `json:"state"` // running, stopped or damaged
	Bytes     int64  `json:"disk_bytes"`
	Problem   string `json:"problem,omitempty"` // why it would not start
}

func vmListCommand(v *vmEnv) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list [--json]", Short: "show the machines, and what keeps them from starting",
		Long: `list shows the machines. A machine whose base is away, or not what it was, has a
line that says so. The exit status is 1 if a record cannot be read.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := v.path()
			if err != nil {
				return err
			}
			records, faults := bases.List(path)
			all := make([]listedMachine, len(records))
			mounts, err := findMounts("")
			if err != nil {
				return err
			}
			survey(cmd.Context(), mounts)
			var looks errgroup.Group
			looks.SetLimit(8)
			for i, r := range records {
				looks.Go(func() error {
					all[i] = lookAtMachine(cmd.Context(), path, r, mounts)
					return nil
				})
			}
			_ = looks.Wait() // none fails
			if asJSON {
				err = v.printJSON(all)
			} else {
				err = printMachines(v.env, all)
			}
			for _, fault := range faults {
				fmt.Fprintf(v.stderr, "vmcastfs: %s\n", plainText(fault.Error()))
			}
			if err == nil && len(faults) > 0 {
				err = withCode(exitFailed, errors.New("the list is not complete: what those machines lie on is not known"))
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON for scripts")
	return cmd
}

// lookAtMachine looks at a machine and its base.
func lookAtMachine(ctx context.Context, dir string, r *bases.Record, mounts []mountStatus) listedMachine {
	m := listedMachine{Record: r, Directory: filepath.Join(dir, r.Name), State: "stopped"}
	var paths []string
	for _, im := range r.Images {
		path := machines.DiskPath(dir, r.Name, im.Disk)
		paths = append(paths, path)
		info, err := os.Lstat(path)
		if err != nil {
			m.State, m.Problem = "damaged", "its disk is not there: "+err.Error()
			return m
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			m.Bytes += st.Blocks * 512
		}
	}
	if machines.Running(paths) || r.Disk == "snapshot" && slices.ContainsFunc(paths, func(p string) bool { return machines.InUse(ctx, p) }) {
		m.State = "running"
	}
	if _, err := lookBase(ctx, r, mounts); err != nil {
		m.Problem = err.Error()
	}
	return m
}

func printMachines(e *env, all []listedMachine) error {
	var rows table
	rows.row("NAME", "RELEASE", "DISK", "FOR", "STATE", "WRITTEN", "MADE")
	for _, m := range all {
		rows.row(m.Name, show.Text(m.Release), m.Disk, m.Engine, m.State, humanize.IBytes(uint64(m.Bytes)), m.Created.Local().Format("2006-01-02"))
		rows.note(show.Text(m.Problem))
	}
	if len(all) == 0 {
		return nil
	}
	return rows.print(e.stdout, widthOf(e.stdout))
}
