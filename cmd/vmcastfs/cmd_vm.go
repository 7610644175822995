package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/machines"
	"vmcastfs/fs/catalog/bases"
)

// vmCommand is `vmcastfs vm create|start|list|reset|remove|commit`.
func vmCommand(e *env) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "vm",
		Short: "make machines that lie on releases, and start them",
		Long: `vm makes a machine of a release: disks of its own that lie on the images in the
mount, and a file for the hypervisor. It drives what is there: qemu-img,
reflinks, device-mapper, QEMU, virsh and xl.

A machine is a directory below --vms, with a record of what it lies on. As long
as it is there, the release keeps its path in the mount, even if it leaves the
feed. A machine whose base is not what it was does not start.

What a command was killed in the middle of is as it was before, or done; what
it left is removed by the next command.`,
		Example: `  vmcastfs vm create web1 /srv/vmcast/latest --start
  vmcastfs vm create web2 /srv/vmcast/latest --for libvirt
  vmcastfs vm reset web1
  vmcastfs vm commit web1 -o web-1.1.xvm --sign key.asc`,
	}
	v := &vmEnv{env: e}
	cmd.PersistentFlags().StringVar(&v.dir, "vms", "", "the machines' directory `DIR` (default: that of mounts)")
	return group(cmd, vmCreateCommand(v), vmStartCommand(v), vmListCommand(v), vmResetCommand(v), vmRemoveCommand(v), vmCommitCommand(v))
}

// vmEnv is what the commands of vm share.
type vmEnv struct {
	*env
	dir string // --vms
}

// path is that of the machines' directory.
func (v *vmEnv) path() (string, error) {
	if v.dir != "" {
		return filepath.Abs(v.dir)
	}
	if dir := defaultOptions().Feed.VMs; dir != "" {
		return dir, nil
	}
	return "", usagef("there is no home directory to keep machines in: name one with --vms DIR")
}

// open opens the machines' directory and removes what killed commands left in it.
// With make it is made if need be.
func (v *vmEnv) open(ctx context.Context, make bool) (*machines.Work, error) {
	path, err := v.path()
	if err != nil {
		return nil, err
	}
	if make {
		if err := passState(path); err != nil {
			return nil, withCode(exitSystem, err)
		}
	}
	d, err := bases.Open(path, make)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, withCode(exitFailed, fmt.Errorf("there are no machines: %s is not there", path))
	}
	if err != nil {
		return nil, withCode(exitSystem, fmt.Errorf("%w; name another directory with --vms DIR", err))
	}
	w := &machines.Work{Dir: d}
	if err := w.Sweep(ctx); err != nil {
		d.Close()
		return nil, withCode(exitSystem, err)
	}
	return w, nil
}

// machine opens one machine, and with it the machines' directory.
func (v *vmEnv) machine(ctx context.Context, name string) (m *machines.Machine, done func(), err error) {
	if err := bases.CheckName(name); err != nil {
		return nil, nil, usagef("%w", err)
	}
	w, err := v.open(ctx, false)
	if err != nil {
		return nil, nil, err
	}
	if m, err = w.Open(name); err != nil {
		w.Dir.Close()
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w; `vmcastfs vm list` shows the machines", err)
		}
		return nil, nil, withCode(exitFailed, err)
	}
	return m, func() { m.Close(); w.Dir.Close() }, nil
}

// passState lets other users pass through the state directory if the machines lie in
// it: the hypervisor may be another user. They see nothing of what is in it.
func passState(vms string) error {
	state := filepath.Dir(vms)
	if state != defaultOptions().State {
		return nil
	}
	if err := os.MkdirAll(state, 0o711); err != nil {
		return err
	}
	info, err := os.Lstat(state)
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o011 == 0o011 {
		return err
	}
	return os.Chmod(state, info.Mode().Perm()|0o011)
}

// oneMachine is the argument of the commands about one machine.
func oneMachine(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return usagef("%s needs the NAME of one machine; `vmcastfs vm list` shows them", cmd.CommandPath())
	}
	return nil
}

// completeMachine completes the name of a machine.
func (v *vmEnv) completeMachine(_ *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
	path, err := v.path()
	if len(args) == 0 && err == nil {
		records, _ := bases.List(path)
		for _, r := range records {
			words = append(words, r.Name+"\t"+r.Release)
		}
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}
