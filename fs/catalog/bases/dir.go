package bases

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/privdir"
)

// Dir is a machines' directory. Close it after use.
type Dir struct{ privdir.Dir }

const (
	mark        = ".vmcastfs-machines" // begins with a dot, which no machine does
	maxMachines = 10000
)

// Open opens the machines' directory, which is this user's and no link. If it is
// not there, write has it made; else the error is fs.ErrNotExist.
func Open(path string, write bool) (Dir, error) {
	var policy privdir.Policy
	if write {
		policy = privdir.Make
		if path != "" {
			if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
				return Dir{}, fmt.Errorf("machines: %w", err)
			}
		}
	}
	d, err := privdir.Open(path, policy, mark)
	if err == nil && write {
		err = pass(d)
		if err == nil {
			var f *os.File
			if f, err = d.OpenFile(mark, os.O_RDWR|os.O_CREATE); err == nil {
				err = f.Close()
			}
		}
		if err != nil {
			d.Close()
		}
	}
	if err != nil {
		return Dir{}, fmt.Errorf("machines: %w", err)
	}
	return Dir{d}, nil
}

// pass lets other users pass through, but not look.
func pass(d privdir.Dir) error { return unix.Fchmod(int(d.Fd()), 0o711) }

// Lock keeps other processes from changing machines until unlock. It waits for
// them until ctx ends.
func (d Dir) Lock(ctx context.Context) (unlock func(), err error) {
	unlock, err = d.Dir.Lock(ctx, mark)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("another command changes machines in %s: %w", d.Name(), context.Cause(ctx))
	}
	return unlock, err
}

// Make makes a directory in that of a machine, or in the machines' directory.
func Make(in privdir.Dir, name string) (privdir.Dir, error) {
	m, err := in.MakeSub(name)
	if err == nil {
		if err = pass(m); err != nil {
			m.Close()
		}
	}
	return m, err
}

// Read reads the record of the machine whose directory has this name.
func (d Dir) Read(name string) (*Record, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	m, err := d.Sub(name)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	raw, err := m.ReadFile(recordName, maxRecord)
	if err != nil {
		return nil, err
	}
	r, err := Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", m.Path(recordName), err)
	case r.Name != name:
		return nil, fmt.Errorf("%s: it is the record of another machine, %q", m.Path(recordName), r.Name)
	}
	return r, nil
}

// Write puts the record into a directory of [Make], whole and durably.
func Write(m privdir.Dir, r *Record) error {
	if err := r.Check(); err != nil {
		return fmt.Errorf("record of %q: %w", r.Name, err)
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return m.Write(recordName, append(raw, '\n'))
}

// List reads the records of all machines, by name. faults are why some could not
// be read; those that vanish meanwhile are none. No directory is no machine.
func List(path string) (records []*Record, faults []error) {
	d, err := Open(path, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{err}
	}
	defer d.Close()
	names, err := d.Names()
	if err != nil {
		return nil, []error{err}
	}
	slices.Sort(names)
	for _, name := range names {
		if CheckName(name) != nil {
			continue
		}
		if len(records) == maxMachines {
			faults = append(faults, fmt.Errorf("%s holds more than %d machines; the others are not looked at", path, maxMachines))
			break
		}
		r, err := d.Read(name)
		switch {
		case err == nil:
			records = append(records, r)
		case !errors.Is(err, fs.ErrNotExist) || d.there(name):
			faults = append(faults, fmt.Errorf("the machine %s: %w", name, err))
		}
	}
	return records, faults
}

func (d Dir) there(name string) bool {
	_, err := d.StatOf(name)
	return err == nil
}
