package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"vmcastfs/fs"
)

const helperUsage = "usage: mount.vmcastfs FEED DIR [-sfnv] [-o OPTIONS]"

// mountHelper is `mount.vmcastfs FEED DIR [-sfnv] [-N NS] [-o OPTIONS] [-t TYPE]`
// as mount(8) calls it: options may follow the operands, -f is "fake".
func (e *env) mountHelper(ctx context.Context, args []string) error {
	if len(args) == 1 && (args[0] == "-h" || args[0] == "--help") {
		fmt.Fprintln(e.stdout, helperUsage+"\nSee mount.vmcastfs(8), or vmcastfs mount --help.")
		return nil
	}
	call, err := parseHelperArgs(args)
	if err != nil {
		return err
	}
	if slices.Contains(splitOptions(call.options), "remount") { // with the options of the kernel's table
		return e.remount(call)
	}
	opts := defaultOptions()
	if err := opts.read(call.options, call.sloppy); err != nil || call.fake {
		return err
	}
	return e.mount(ctx, mountCall{feed: call.feed, dir: call.dir, list: call.options, opts: opts, background: true, verbose: call.verbose, sloppy: call.sloppy})
}

// remount is `mount -o remount`: what can be changed by it (ro, nosuid, …) is
// always so here, hence it only has to be a mount of ours.
func (e *env) remount(call helperCall) error {
	_, mounted, err := fs.MountedOn(call.dir)
	switch {
	case err != nil:
		return withCode(exitMount, fmt.Errorf("remount: %w", err))
	case !mounted:
		return withCode(exitMount, fmt.Errorf("remount: no feed is mounted on %s", call.dir))
	}
	fmt.Fprintln(e.stderr, "mount.vmcastfs: remount changes nothing; other options need an umount and a mount")
	return nil
}

// helperCall is a parsed command line of mount(8).
type helperCall struct {
	feed, dir, options    string
	sloppy, fake, verbose bool
}

func parseHelperArgs(args []string) (helperCall, error) {
	var c helperCall
	var operands, lists []string
	for i := 0; i < len(args); i++ {
		arg := args[i]
		if len(arg) < 2 || arg[0] != '-' {
			operands = append(operands, arg)
			continue
		}
		for j := 1; j < len(arg); j++ {
			switch f := arg[j]; f {
			case 's':
				c.sloppy = true
			case 'f':
				c.fake = true
			case 'v':
				c.verbose = true
			case 'n', 'r', 'w': // no mtab; ro and rw come as options too
			case 'o', 't', 'N':
				value := arg[j+1:]
				if value == "" {
					i++
					if i == len(args) {
						return c, usagef("-%c needs a value", f)
					}
					value = args[i]
				}
				if f == 'o' {
					lists = append(lists, value)
				}
				j = len(arg)
			default:
				return c, usagef("unknown option -%c; %s", f, helperUsage)
			}
		}
	}
	if len(operands) != 2 {
		return c, usagef(helperUsage)
	}
	c.feed, c.dir, c.options = operands[0], operands[1], strings.Join(lists, ",")
	return c, nil
}
