package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The manual pages are made from the command tree, the option table and the
// table of exit codes, so that they say what the program does.

// page is a manual page under way, in the man(7) macros.
type page struct{ strings.Builder }

func newPage(name string, section int, what string) *page {
	p := &page{}
	fmt.Fprintf(p, ".TH %s %d \"\" \"vmcastfs %s\"\n", strings.ToUpper(name), section, escapeRoff(version()))
	p.WriteString(".nh\n.ad l\n")
	p.section("Name")
	p.line(name + ` \- ` + what)
	return p
}

// line writes one line of text that is roff already.
func (p *page) line(s string) {
	p.WriteString(s)
	p.WriteByte('\n')
}

func (p *page) section(title string) { p.line(".SH " + strings.ToUpper(title)) }

// item is a tagged paragraph.
func (p *page) item(tag, text string) {
	p.line(".TP")
	p.line(`\fB` + escapeRoff(tag) + `\fR`)
	p.text(text)
}

// text writes help text: paragraphs, and indented lines as they are.
func (p *page) text(s string) {
	verbatim := false
	for line := range strings.Lines(strings.Trim(s, "\n") + "\n") {
		line = strings.TrimSuffix(line, "\n")
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !verbatim:
			p.line(".PP\n.nf")
			verbatim = true
		case !indented && verbatim:
			p.line(".fi")
			verbatim = false
		}
		switch {
		case line == "":
			p.line(".PP")
		default:
			p.line(escapeRoff(line))
		}
	}
	if verbatim {
		p.line(".fi")
	}
}

// escapeRoff makes any text stand for itself.
func escapeRoff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

func (p *page) flags(flags *pflag.FlagSet) {
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		tag := "--" + f.Name
		if f.Shorthand != "" {
			tag = "-" + f.Shorthand + ", " + tag
		}
		arg, usage := pflag.UnquoteUsage(f)
		if arg != "" {
			tag += " " + strings.ToUpper(arg)
		}
		p.item(tag, usage)
	})
}

func (p *page) files() {
	p.section("Files")
	for _, f := range [][2]string{
		{"/etc/vmcastfs/keys/", "trusted OpenPGP keys; with any, releases that none of them signed are refused"},
		{"/etc/vmcastfs/INSTANCE.conf", "FEED and OPTIONS of vmcastfs@INSTANCE.service"},
		{"/var/cache/vmcastfs/", "the block cache of root; of users $XDG_CACHE_HOME/vmcastfs. It may be deleted while nothing is mounted"},
		{"/var/lib/vmcastfs/", "what has been trusted so far; of users $XDG_STATE_HOME/vmcastfs. It should be kept"},
		{"DIR/.vmcastfs/status.json", "the state of a mount, read from memory"},
	} {
		p.item(f[0], f[1])
	}
}

func (p *page) exitStatus() {
	p.section("Exit status")
	for _, c := range exitCodes {
		p.item(fmt.Sprint(c.code), c.meaning)
	}
}

// commandPage is vmcastfs(1).
func commandPage(root *cobra.Command) string {
	p := newPage("vmcastfs", 1, root.Short)
	p.section("Synopsis")
	p.line(`\fBvmcastfs\fR \fICOMMAND\fR [\fIFLAGS\fR] [\fIARGUMENTS\fR]`)
	p.section("Description")
	p.text(root.Long)
	p.section("Commands")
	p.commands(root)
	p.section("Example")
	p.text(root.Example)
	p.exitStatus()
	p.files()
	p.section("Environment")
	p.item("HTTP_PROXY, HTTPS_PROXY, NO_PROXY", "the proxy, unless the option proxy= names one")
	p.item("XDG_CACHE_HOME, XDG_STATE_HOME, HOME", "where the cache and the trust state of a user lie")
	p.section("See also")
	p.line(`\fBmount.vmcastfs\fR(8), \fBmount\fR(8), \fBfstab\fR(5), \fBfusermount3\fR(1), \fBqemu-img\fR(1), \fBxl.cfg\fR(5)`)
	return p.String()
}

func (p *page) commands(parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		if !cmd.IsAvailableCommand() || cmd.Name() == "help" || cmd.Name() == "completion" {
			continue
		}
		if cmd.HasAvailableSubCommands() && !cmd.Runnable() {
			p.commands(cmd)
			continue
		}
		p.line(`.SS "` + strings.ReplaceAll(escapeRoff(usageLine(cmd)), `"`, `\(dq`) + `"`)
		if cmd.Long != "" {
			p.text(cmd.Long)
		} else {
			p.text(strings.ToUpper(cmd.Short[:1]) + cmd.Short[1:] + ".")
		}
		p.flags(cmd.LocalFlags())
		if cmd.Example != "" {
			p.text(cmd.Example)
		}
		p.commands(cmd)
	}
}

// usageLine is a command's usage without the program's name and cobra's
// "[flags]".
func usageLine(cmd *cobra.Command) string {
	parents := strings.TrimPrefix(cmd.CommandPath(), "vmcastfs ")
	return strings.TrimSuffix(parents, cmd.Name()) + cmd.Use
}

// helperPage is mount.vmcastfs(8).
func helperPage() string {
	p := newPage("mount.vmcastfs", 8, "mount a VMcast feed of virtual machines")
	p.section("Synopsis")
	p.line(`\fBmount -t vmcastfs\fR [\fB-o\fR \fIOPTIONS\fR] \fIFEED\fR \fIDIR\fR`)
	p.line(".PP")
	p.line(`\fBmount.vmcastfs\fR \fIFEED\fR \fIDIR\fR [\fB-sfnv\fR] [\fB-N\fR \fINAMESPACE\fR] [\fB-o\fR \fIOPTIONS\fR] [\fB-t\fR \fITYPE\fR]`)
	p.section("Description")
	p.text(`mount.vmcastfs is how mount(8) calls vmcastfs(1). It shows the feed FEED, an http
or https address or a local file, on the directory DIR: every release is a
directory, and its disk images are files that QEMU and Xen boot from at once.
It returns when the mount answers, and leaves a process behind that serves it.
The types vmcastfs and fuse.vmcastfs do the same. A mount whose process has died
("transport endpoint is not connected") is replaced.

FEED shows as the source of the mount in /proc/mounts for everybody: passwords
belong into files, see netrc= and token_file=.`)
	p.section("Options")
	p.text(`In their names - and _ are the same. A backslash before a comma keeps it in a
value, as double quotes around the value do. Sizes are such as 512M and 20G, in powers of 1024; durations such as 30s
and 10m. Paths are taken from the directory that mount is called in.`)
	group := ""
	for _, k := range optionTable() {
		if k.group != group {
			group = k.group
			p.line(".SS " + group)
		}
		tag := k.name
		if k.arg != "" {
			tag += "=" + k.arg
		}
		p.item(tag, k.help)
	}
	p.line(`.SS "Options of mount(8)"`)
	p.text(`These are accepted and change nothing, for the mount is always read-only, nosuid,
nodev and noexec, and checks permissions: ` + strings.Join(genericOptions, ", ") + `, and all that begin with x- or X-. With -s,
unknown options are ignored.`)
	p.section("fstab")
	p.text(indent(string(distFile("example.fstab"))) + `
mount -a leaves a feed that is mounted alone. In fstab a # and spaces in FEED are
written \043 and \040.`)
	p.section("systemd")
	p.text(`A line in fstab is enough. vmcastfs@.service is for who wants the log and the
state of each mount as that of a service; its instance name is the mount point
as systemd-escape --path prints it, its configuration
/etc/vmcastfs/INSTANCE.conf with
` + indent(string(distFile("example.conf"))) + `
The unit is ready when the mount answers, tells its state in systemctl status,
looks at the feed at once on reload, and comes before the guests of libvirt and
Xen. It is started anew when it dies or hangs: who had images open then gets
errors from them, and has to open them again. A restart does not do that, and so
takes a new binary into use: what is open is served by the old process until it
is closed. Of a line in fstab the same is done by umount -l and mount.`)
	p.section("autofs")
	p.text(`In a map of autofs(5) an address is written with its colon escaped:

` + indent(string(distFile("example.autofs"))) + `

An idle mount is then unmounted; it comes back at the next use, from the cache.`)
	p.section("updatedb")
	p.text(indent(string(distFile("example.updatedb"))))
	p.section("Signals")
	p.item("SIGHUP", "look at the feed now")
	p.item("SIGTERM, SIGINT", "unmount; a mount that is in use is detached after 3 seconds and served until it is not; the second signal ends it at once (of a service, SIGINT only)")
	p.exitStatus()
	p.files()
	p.section("See also")
	p.line(`\fBvmcastfs\fR(1), \fBmount\fR(8), \fBfstab\fR(5), \fBsystemd.mount\fR(5), \fBsystemd-escape\fR(1)`)
	return p.String()
}

func indent(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString("  " + line)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
