package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/cmd/internal/machines"
)

func vmStartCommand(v *vmEnv) *cobra.Command {
	return &cobra.Command{
		Use:   "start NAME",
		Short: "start a machine, if its base is what it was",
		Long: `start looks whether the base of the machine is what it was when the machine was
made, and starts the machine: QEMU in this terminal, with the serial line of the
guest; libvirt by virsh, which is asked to define the machine first; Xen by xl.
The file of the hypervisor lies beside the record, and may be edited: qemu.sh,
domain.xml or xl.cfg.

What is started without this command, as by virsh, is not compared.`,
		Args: oneMachine, ValidArgsFunction: v.completeMachine,
		RunE: func(cmd *cobra.Command, args []string) error {
			m, done, err := v.machine(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			defer done()
			return v.start(cmd.Context(), m)
		},
	}
}

// start starts a machine whose base is what it was.
func (v *vmEnv) start(ctx context.Context, m *machines.Machine) error {
	b, err := checkBase(ctx, m.Record)
	if err != nil {
		return err
	}
	quiet, err := machines.Quiet(m.Paths())
	if err != nil {
		return withCode(exitFailed, fmt.Errorf("%s: %w", m.Name, err))
	}
	quiet()
	switch m.Engine {
	case "libvirt":
		defined, err := domain(ctx, m)
		if err == nil && !defined {
			_, err = virsh(ctx, "define", m.Dir.Path("domain.xml"))
		}
		if err == nil {
			_, err = virsh(ctx, "start", m.Name)
		}
		if err != nil {
			return withCode(exitFailed, err)
		}
		fmt.Fprintf(v.stdout, "started %s: `virsh console %s` shows its serial line\n", m.Name, m.Name)
		return nil
	case "xl":
		for _, im := range m.Images {
			if m.Disk == "snapshot" && err == nil {
				err = machines.Activate(ctx, filepath.Join(b.dir, im.File), m.DiskPath(im.Disk), im.Size)
			}
		}
		if err == nil {
			_, err = machines.Run(ctx, "xl", "create", m.Dir.Path("xl.cfg"))
		}
		if err != nil {
			if release, left := stopped(context.WithoutCancel(ctx), m); left == nil {
				release() // and its block devices are gone
			}
			return withCode(exitFailed, err)
		}
		fmt.Fprintf(v.stdout, "started %s: `xl console %s` shows its serial line\n", m.Name, m.Name)
		return nil
	}
	return v.runQEMU(ctx, m)
}

// runQEMU runs the machine until it switches itself off. A signal that ends this
// command ends QEMU.
func (v *vmEnv) runQEMU(ctx context.Context, m *machines.Machine) error {
	cmd := exec.CommandContext(ctx, "sh", m.Dir.Path("qemu.sh"))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, v.stdout, v.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return &exitError{exitInterrupted, errors.New("interrupted")}
	case errors.As(err, &exit) && exit.ExitCode() == 127:
		return withCode(exitFailed, &machines.MissingError{Program: "qemu-system-x86_64"})
	case err != nil:
		return withCode(exitFailed, fmt.Errorf("QEMU: %w", err))
	}
	return nil
}

// virshLimit is how long libvirt may take for an answer: the first one takes long.
const virshLimit = 2 * time.Minute

func virsh(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, virshLimit, fmt.Errorf("no answer within %s", virshLimit))
	defer cancel()
	return machines.Run(ctx, "virsh", append([]string{"--quiet"}, args...)...)
}

// domain tells whether libvirt has a domain of the machine. One of the same name that
// is another is an error.
func domain(ctx context.Context, m *machines.Machine) (defined bool, err error) {
	text, err := virsh(ctx, "dumpxml", "--inactive", m.Name)
	var missing *machines.MissingError
	switch {
	case errors.As(err, &missing) || ctx.Err() != nil:
		return false, err
	case err != nil:
		return false, nil // there is none; what else is wrong shows when it is defined
	case !strings.Contains(text, m.DiskPath(m.Images[0].Disk)):
		return false, fmt.Errorf("libvirt has another machine %s, which does not lie on %s", m.Name, m.DiskPath(m.Images[0].Disk))
	}
	return true, nil
}

// undefined refuses the name of a machine that the hypervisor has already.
func undefined(ctx context.Context, engine, name string) error {
	var err error
	switch engine {
	case "libvirt":
		_, err = virsh(ctx, "domuuid", name)
	case "xl":
		_, err = machines.Run(ctx, "xl", "domid", name)
	default:
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s has a machine %s already: give this one another name", engine, name)
	}
	return ctx.Err() // there is none, or no hypervisor yet
}

// stopped makes sure that the machine does not run, and that QEMU does not start it
// until release.
func stopped(ctx context.Context, m *machines.Machine) (release func(), err error) {
	if m.Engine == "xl" {
		if _, err := machines.Run(ctx, "xl", "domid", m.Name); err == nil {
			return nil, withCode(exitFailed, fmt.Errorf("%s: it runs: stop it first, with xl shutdown -w %s", m.Name, m.Name))
		}
	}
	if m.Disk == "snapshot" {
		for _, im := range m.Images {
			if err := machines.Deactivate(ctx, m.DiskPath(im.Disk)); err != nil {
				return nil, withCode(exitFailed, fmt.Errorf("%s: %w", m.Name, err))
			}
		}
	}
	release, err = machines.Quiet(m.Paths())
	if err != nil {
		return nil, withCode(exitFailed, fmt.Errorf("%s: %w", m.Name, err))
	}
	return release, nil
}
