package main

import (
	"bytes"
	"embed"
	"fmt"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// The manual pages of commands are made from the command tree. Those of topics
// are the Markdown files in docs. What the program knows better stands in
// mount.md as a word in capitals: the options, the exit codes and the examples.

//go:embed docs/*.md
var docs embed.FS

// manualPages is every manual page in roff, by file name.
func manualPages() (map[string][]byte, error) {
	pages := map[string][]byte{
		"mount.vmcastfs.8":      topicPage("mount.vmcastfs", 8, mountDoc()),
		"vmcastfs-operations.7": topicPage("vmcastfs-operations", 7, docFile("operations")),
		"vmcastfs-security.7":   topicPage("vmcastfs-security", 7, docFile("security")),
	}
	root := rootCommand(&env{}) // one that has not run has no command for completions
	root.DisableAutoGenTag = true
	if err := commandPages(root, pages); err != nil {
		return nil, err
	}
	_, more, _ := bytes.Cut(topicPage("vmcastfs", 1, "# vmcastfs\n"+exitDoc()+filesDoc+`
## Environment

HTTP_PROXY, HTTPS_PROXY, NO_PROXY
: The proxy, unless the option proxy= names one.

XDG_CACHE_HOME, XDG_STATE_HOME, HOME
: Where the cache and the trust state of a user lie.

## More

**mount.vmcastfs**(8), **vmcastfs-operations**(7), **vmcastfs-security**(7), **mount**(8), **fusermount3**(1), **qemu-img**(1), **xl.cfg**(5)
`), []byte("\n.SH Exit"))
	pages["vmcastfs.1"] = append(append(pages["vmcastfs.1"], "\n.SH Exit"...), more...)
	return pages, nil
}

// commandPages adds the pages of cmd and of all its commands.
func commandPages(cmd *cobra.Command, pages map[string][]byte) error {
	var b bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{Source: "vmcastfs " + version()}, &b); err != nil {
		return err
	}
	pages[strings.ReplaceAll(cmd.CommandPath(), " ", "-")+".1"] = b.Bytes()
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			if err := commandPages(c, pages); err != nil {
				return err
			}
		}
	}
	return nil
}

// topicPage renders a page that is written in Markdown. Its title says what it
// is about; man(1) wants that in a section of its own.
func topicPage(name string, section int, text string) []byte {
	title, text, _ := strings.Cut(strings.TrimPrefix(narrow(text), "# "), "\n")
	head := fmt.Sprintf("%% %q \"%d\" \"\" %q \"\"\n## Name\n\n%s - %s\n", strings.ToUpper(name), section, "vmcastfs "+version(), name, strings.ToLower(title[:1])+title[1:])
	return md2man.Render([]byte(head + text))
}

var fstabLine = regexp.MustCompile(`(?m)^( *)(#?\S+) +(\S+) +vmcastfs +(\S+nofail,)(\S+) +0 +0$`)

// narrow breaks the lines of fstab, which must be one line there, for a terminal.
func narrow(text string) string {
	return fstabLine.ReplaceAllString(text, "$1$2 $3 vmcastfs OPTIONS 0 0\n$1# OPTIONS is one word: $4\n$1#   $5")
}

// docFile is a page of docs.
func docFile(name string) string {
	text, err := docs.ReadFile("docs/" + name + ".md")
	if err != nil {
		panic(err) // a name that is not in this program
	}
	return string(text)
}

// mountDoc is mount.vmcastfs(8) in Markdown.
func mountDoc() string {
	var text strings.Builder
	group := ""
	for _, k := range optionTable(new(options)) {
		if k.group != group {
			group = k.group
			fmt.Fprintf(&text, "### %s\n\n", group)
		}
		fmt.Fprintf(&text, "**%s**\n: %s\n\n", k.usage(), strings.ReplaceAll(k.help, "_", `\_`))
	}
	example := func(name string) string { return strings.TrimSpace(string(distFile("example." + name))) }
	return strings.NewReplacer(
		"\nOPTIONS\n", "\n"+text.String()+"\n", "GENERIC", strings.ReplaceAll(strings.Join(genericOptions, ", "), "_", `\_`),
		"\nFSTAB\n", "\n"+example("fstab")+"\n", "\nCONF\n", "\n"+example("conf")+"\n",
		"\nAUTOFS\n", "\n"+example("autofs")+"\n", "\nUPDATEDB\n", "\n"+example("updatedb")+"\n",
		"\nEXIT\n", exitDoc(), "\nFILES\n", filesDoc,
	).Replace(docFile("mount"))
}

// exitDoc is the section on exit codes.
func exitDoc() string {
	text := "\n## Exit status\n\n"
	for _, c := range exitCodes {
		text += fmt.Sprintf("%d\n: %s\n\n", c.code, c.meaning)
	}
	return text
}

// filesDoc is the section on files.
const filesDoc = `
## Files

/etc/vmcastfs/keys/
: Trusted OpenPGP keys. With any, releases that none of them signed are refused.

/etc/vmcastfs/INSTANCE.conf
: FEED and OPTIONS of vmcastfs@INSTANCE.service.

/var/cache/vmcastfs/
: The block cache of root. Of users it is $XDG\_CACHE\_HOME/vmcastfs. You may delete
it while nothing is mounted.

/var/lib/vmcastfs/
: What has been trusted so far, and machines, in vms. Of users it is $XDG\_STATE\_HOME/vmcastfs. Keep it.

DIR/.vmcastfs/status.json
: The state of a mount, from memory.
`
