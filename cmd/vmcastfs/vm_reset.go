package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/machines"
)

func vmResetCommand(v *vmEnv) *cobra.Command {
	var start bool
	cmd := &cobra.Command{
		Use:   "reset [--start] NAME",
		Short: "give a machine fresh disks: what it wrote is gone",
		Long: `reset puts fresh disks in the place of those of a machine that is stopped, all
at once and under the same names. The old ones are removed when the new ones
are on the disk.`,
		Args: oneMachine, ValidArgsFunction: v.completeMachine,
	}
	cmd.Flags().BoolVar(&start, "start", false, "start it then")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx := cmd.Context()
		m, done, err := v.machine(ctx, args[0])
		if err != nil {
			return err
		}
		defer done()
		b, err := checkBase(ctx, m.Record)
		if err != nil {
			return err
		}
		release, err := stopped(ctx, m)
		if err != nil {
			return err
		}
		defer release()
		disks, end, err := v.disks(m.Record, b)
		if err != nil {
			return err
		}
		defer end()
		if err := m.Reset(ctx, disks); err != nil {
			return v.explain(m.Work, err)
		}
		release()
		fmt.Fprintf(v.stdout, "reset %s: its disks are as in %s\n", m.Name, m.Release)
		if !start {
			return nil
		}
		return v.start(ctx, m)
	}
	return cmd
}

func vmRemoveCommand(v *vmEnv) *cobra.Command {
	return &cobra.Command{
		Use:   "remove NAME",
		Short: "remove a machine and its disks",
		Long: `remove removes a machine that is stopped, with its disks and all that is in its
directory. libvirt forgets it too. The release it lies on may go then.`,
		Args: oneMachine, ValidArgsFunction: v.completeMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			m, done, err := v.machine(ctx, args[0])
			if err != nil {
				return err
			}
			defer done()
			release, err := stopped(ctx, m)
			if errors.Is(err, fs.ErrNotExist) { // a disk is gone already
				release, err = func() {}, nil
			}
			if err != nil {
				return err
			}
			defer release()
			if m.Engine == "libvirt" {
				if err := v.undefine(cmd, m); err != nil {
					return withCode(exitFailed, err)
				}
			}
			if err := m.Remove(); err != nil {
				return withCode(exitSystem, err)
			}
			fmt.Fprintf(v.stdout, "removed %s\n", m.Name)
			return nil
		},
	}
}

// undefine has libvirt forget the machine.
func (v *vmEnv) undefine(cmd *cobra.Command, m *machines.Machine) error {
	var missing *machines.MissingError
	defined, err := domain(cmd.Context(), m)
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil || !defined {
		fmt.Fprintf(v.stderr, "vmcastfs: libvirt does not know %s, or does not answer\n", m.Name)
		return cmd.Context().Err()
	}
	if _, err := virsh(cmd.Context(), "undefine", m.Name); err == nil {
		return nil
	}
	_, err = virsh(cmd.Context(), "undefine", "--nvram", m.Name) // of a machine with UEFI
	return err
}
