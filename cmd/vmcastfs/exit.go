package main

import (
	"context"
	"errors"
	"fmt"
)

// Exit codes. Those of the mount forms are mount(8)'s; the other commands use
// the first four.
const (
	exitOK          = 0  // done
	exitFailed      = 1  // something that was checked is wrong, or the command could not be understood
	exitSystem      = 2  // the system refused: memory, devices, permissions
	exitInternal    = 4  // a fault of vmcastfs itself
	exitInterrupted = 8  // stopped by a signal
	exitMount       = 32 // the mount failed
)

// exitCodes is their table for the manual.
var exitCodes = []struct {
	code    int
	meaning string
}{
	{exitOK, "done; of mount: mounted"},
	{exitFailed, "wrong usage, or something that was checked is wrong"},
	{exitSystem, "the system refused: memory, devices, permissions, disk"},
	{exitInternal, "a fault of vmcastfs itself"},
	{exitInterrupted, "interrupted by a signal"},
	{exitMount, "the mount failed"},
}

// exitError carries the exit code a failure ends the process with.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// withCode gives err an exit code; an inner code wins, nil stays nil.
func withCode(code int, err error) error {
	var inner *exitError
	if err == nil || errors.As(err, &inner) {
		return err
	}
	return &exitError{code, err}
}

// usagef is a mistake in how the command was called.
func usagef(format string, args ...any) error {
	return &exitError{exitFailed, fmt.Errorf(format, args...)}
}

// codeOf is the exit code for err.
func codeOf(err error) int {
	var e *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &e):
		return e.code
	default:
		return exitFailed
	}
}

// interrupted is what a failure comes down to when a signal stopped the
// command: ctx ended, and err follows from that.
func interrupted(ctx context.Context, err error) error {
	if err == nil || ctx.Err() == nil || !errors.Is(err, context.Canceled) && codeOf(err) != exitFailed {
		return err
	}
	return &exitError{exitInterrupted, errors.New("interrupted")}
}
