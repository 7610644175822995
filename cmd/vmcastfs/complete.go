package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"vmcastfs/cache/store"
	"vmcastfs/feed/show"
)

// bashQuotes are the lines of bash's script that make a word safe for the shell.
var bashQuotes = regexp.MustCompile(`(?m)^( *)((comp|COMPREPLY\[0\])=\$\(printf "%q".*|printf -v (comp) "%q".*)$`)

// bashCompletion writes the script for bash. That of cobra escapes commas, which need
// none, and then takes no word with a comma for what the user has typed.
func bashCompletion(w io.Writer, root *cobra.Command) error {
	var script bytes.Buffer
	if err := root.GenBashCompletionV2(&script, true); err != nil {
		return err
	}
	_, err := w.Write(bashQuotes.ReplaceAll(script.Bytes(), []byte("$1$2\n$1$3$4=${$3$4//\\\\,/,}")))
	return err
}

// completeOptions completes the last of the names and values of an -o list.
func completeOptions(_ *cobra.Command, _ []string, typed string) (words []string, _ cobra.ShellCompDirective) {
	at := strings.LastIndexByte(typed, ',') + 1
	before, name := typed[:at], typed[at:]
	name, value, hasValue := strings.Cut(name, "=")
	for _, k := range optionTable(new(options)) {
		switch {
		case !hasValue && strings.HasPrefix(k.name, name) && k.arg == "":
			words = append(words, before+k.name+"\t"+k.help)
		case !hasValue && strings.HasPrefix(k.name, name):
			words = append(words, before+k.name+"=\t"+k.help)
		case hasValue && k.name == name:
			for choice := range strings.SplitSeq(k.arg, "|") {
				if strings.ToLower(choice) == choice {
					words = append(words, before+name+"="+choice)
				}
			}
			if !namesFile(k, "/") {
				continue
			}
			files, _ := filepath.Glob(value + "*")
			for _, file := range files {
				if info, err := os.Stat(file); err == nil && info.IsDir() {
					file += "/"
				} else if strings.HasSuffix(k.arg, "DIR") {
					continue
				}
				words = append(words, before+name+"="+file)
			}
		}
	}
	return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// completeMount completes the directory of one mount.
func completeMount(_ *cobra.Command, args []string, _ string) (words []string, _ cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	mounts, _ := findMounts("")
	for _, m := range mounts {
		words = append(words, m.Dir+"\t"+m.Feed)
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// completeInMounts completes paths in mounts: first the mounts, then their releases.
// The shell completes what is in a release.
func completeInMounts(_ *cobra.Command, _ []string, typed string) (words []string, _ cobra.ShellCompDirective) {
	mounts, _ := findMounts("")
	for _, m := range mounts {
		if strings.HasPrefix(m.Dir, typed) {
			words = append(words, m.Dir+"/\t"+m.Feed)
		}
		if filepath.Dir(typed) != m.Dir {
			continue
		}
		releases, _ := os.ReadDir(m.Dir)
		for _, r := range releases {
			if path := m.Dir + "/" + r.Name(); r.Type()&(os.ModeDir|os.ModeSymlink) != 0 && strings.HasPrefix(path, typed) {
				words = append(words, path+"/")
			}
		}
	}
	if words == nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return words, cobra.ShellCompDirectiveNoSpace | cobra.ShellCompDirectiveNoFileComp
}

// completeCached completes what names cached files: their names, and paths in mounts.
func completeCached(open func() (*store.Store, error), wanted func(store.Info) bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		words, how := completeInMounts(cmd, args, typed)
		if strings.HasPrefix(typed, "/") {
			return words, how
		}
		s, err := open()
		if err != nil {
			return words, how
		}
		defer s.Close() //nolint:errcheck // only read
		infos, _ := cachedFiles(s)
		for _, i := range infos {
			if wanted(i) && strings.HasPrefix(i.Label, typed) && show.Text(i.Label) == i.Label && i.Label != "" {
				words, how = append(words, i.Label), how|cobra.ShellCompDirectiveNoFileComp
			}
		}
		return words, how
	}
}

// addOptions gives a command the flag -o.
func addOptions(cmd *cobra.Command, list *string, usage string) {
	cmd.PersistentFlags().StringVarP(list, "options", "o", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("options", completeOptions) // it fails only for a flag that is not there
}

// addDirectory gives a command --NAME DIR and -o NAME=DIR, which are the same:
// a directory of mounts.
func addDirectory(cmd *cobra.Command, name string, of func(*options) *string) (directory func() (string, error)) {
	var list string
	dir := cmd.PersistentFlags().String(name, "", "the "+name+" directory `DIR` (default: that of mounts)")
	addOptions(cmd, &list, "mount `OPTIONS`, of which "+name+"=DIR counts")
	return func() (string, error) {
		o := defaultOptions()
		if err := o.parse(list, false); err != nil {
			return "", err
		}
		if *dir != "" {
			*of(&o) = *dir
		}
		return *of(&o), nil
	}
}
