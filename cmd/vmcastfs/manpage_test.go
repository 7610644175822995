package main

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"vmcastfs/cache/testkit"
)

// TestManualPages reads every page as man(1) shows it.
func TestManualPages(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"man", "groff"} {
		testkit.Need(t, tool)
	}
	pages, err := manualPages()
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{} // without line breaks
	broken := strings.NewReplacer("\u2010\n", "\x00", "-\n", "-\x00")
	spaces := regexp.MustCompile(`\x00 *`)
	for name, page := range pages {
		cmd := exec.Command("man", "--warnings", "-l", "-")
		cmd.Stdin = bytes.NewReader(page)
		cmd.Env = append(os.Environ(), "MANWIDTH=80", "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("man %s: %v, %s", name, err, stderr.String())
		}
		for line := range strings.Lines(string(out)) {
			if line = strings.TrimSuffix(line, "\n"); utf8.RuneCountInString(line) > 80 {
				t.Errorf("%s is too wide: %s", name, line)
			}
		}
		text[name] = strings.Join(strings.Fields(spaces.ReplaceAllString(broken.Replace(string(out)), "")), " ")
		if !regexp.MustCompile(`(?i)^\S+ \S+ name ` + strings.TrimRight(name, ".178") + ` - `).MatchString(text[name]) {
			t.Errorf("%s does not begin with its name: %.100q", name, text[name])
		}
	}
	mount := text["mount.vmcastfs.8"]
	for _, k := range optionTable(new(options)) {
		if !strings.Contains(mount, k.help[:min(len(k.help), 20)]) || !strings.Contains(mount, k.name) {
			t.Errorf("mount.vmcastfs(8) does not explain %s", k.name)
		}
	}
	for _, example := range []string{"example.fstab", "example.conf", "example.autofs", "example.updatedb"} {
		for line := range strings.Lines(narrow(string(distFile(example)))) {
			if !strings.Contains(mount, strings.Join(strings.Fields(line), " ")) {
				t.Errorf("mount.vmcastfs(8) lacks a line of %s: %s", example, line)
			}
		}
	}
	for _, c := range exitCodes {
		if !strings.Contains(mount, c.meaning) || !strings.Contains(text["vmcastfs.1"], c.meaning) {
			t.Errorf("exit code %d is not explained", c.code)
		}
	}
	for _, cmd := range rootCommand(&env{}).Commands() {
		if page := text["vmcastfs-"+cmd.Name()+".1"]; !strings.Contains(page, cmd.Short) || !strings.Contains(text["vmcastfs.1"], "vmcastfs-"+cmd.Name()+"(1)") {
			t.Errorf("there is no page of %s", cmd.Name())
		}
	}
	for _, word := range []string{"OPTIONS", "GENERIC", "FSTAB", "CONF", "EXIT", "FILES"} {
		if strings.Contains(mountDoc(), "\n"+word+"\n") || strings.Contains(mountDoc(), "GENERIC") {
			t.Errorf("mount.md: %s was not replaced", word)
		}
	}
}

// TestPlainEnglish: no sentence of the pages has more than 25 words, and no cell
// of a table more than 15.
func TestPlainEnglish(t *testing.T) {
	t.Parallel()
	pages := map[string]string{"mount": mountDoc(), "README": sourceOf(t, "../../README.md")}
	for _, name := range []string{"operations", "security", "benchmarks"} {
		pages[name] = docFile(name)
	}
	sentence := regexp.MustCompile(`[^.:;?!]+(?:[.:;?!][^\s)"*]+[^.:;?!]*)*`)
	for name, page := range pages {
		code := false
		var prose strings.Builder
		for line := range strings.Lines(page) {
			switch {
			case strings.HasPrefix(line, "```"):
				code = !code
			case code, strings.HasPrefix(line, "    "):
			case strings.HasPrefix(line, "|"):
				for cell := range strings.SplitSeq(strings.ReplaceAll(line, `\|`, "/"), "|") {
					if n := len(strings.Fields(cell)); n > 15 {
						t.Errorf("%s: a cell of %d words: %s", name, n, cell)
					}
				}
			case strings.HasPrefix(line, "#"):
				prose.WriteString(".\n")
			case strings.HasPrefix(line, "- "), strings.HasPrefix(line, ": "), strings.TrimSpace(line) == "":
				prose.WriteString(".\n" + line)
			default:
				prose.WriteString(line)
			}
		}
		for _, s := range sentence.FindAllString(prose.String(), -1) {
			if n := len(strings.Fields(s)); n > 25 && !strings.Contains(s, "nodiratime") {
				t.Errorf("%s: a sentence of %d words: %s", name, n, strings.Join(strings.Fields(s), " "))
			}
		}
	}
}
