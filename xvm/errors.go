package xvm

import (
	"errors"
	"fmt"
)

// ErrNotPackage says that what was found is no package that can be used.
var ErrNotPackage = errors.New("not a package")

// What is wrong with an archive, for errors.Is. Every error of Walk that is about the archive (and not about
// reading it) is a *TarError wrapping one of these.
var (
	// ErrNotTar says that the bytes are something else: a web page, a compressed file, a bare disk image, nothing.
	ErrNotTar = errors.New("not a tar archive")
	// ErrTarRefused says that none of the members may be served. The archive is damaged so that every later header
	// is doubtful, programs read it differently, or it names one file twice.
	ErrTarRefused = errors.New("archive refused")
	// ErrTarLimit says that the archive exceeds one of Limits.
	ErrTarLimit = errors.New("archive exceeds a limit")
)

// TarError says what is wrong with an archive, and where.
type TarError struct {
	Kind   error  // ErrNotTar, ErrTarRefused or ErrTarLimit
	Offset int64  // bytes from the start of the archive to the header concerned
	Name   string // the member concerned, fit for a terminal; "" if it is not known or does not matter
	Reason string // one clause, fit for a terminal
}

func (e *TarError) Error() string {
	switch {
	case e.Kind == ErrNotTar:
		return fmt.Sprintf("%v: %s", e.Kind, e.Reason)
	case e.Name != "":
		return fmt.Sprintf("%v: member %q at offset %d: %s", e.Kind, e.Name, e.Offset, e.Reason)
	}
	return fmt.Sprintf("%v: at offset %d: %s", e.Kind, e.Offset, e.Reason)
}

func (e *TarError) Unwrap() error { return e.Kind }
