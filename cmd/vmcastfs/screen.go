package main

import (
	"io"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"
)

// screen is where a table is shown.
type screen struct {
	width, height int  // characters; 0: unknown, or no terminal
	colour        bool // it is a terminal that shows some, and NO_COLOR does not forbid them
}

func screenOf(w io.Writer) (s screen) {
	if f := terminalOf(w); f != nil {
		s.width, s.height, _ = term.GetSize(int(f.Fd())) // 0 with an error
		s.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return s
}

// all is a screen of any height, if all is to be shown.
func (s screen) all(yes bool) screen {
	if yes {
		s.height = 0
	}
	return s
}

// Colours of a terminal, by the words that have them. They stand in the second
// column, where no stranger's text does, or before a colon.
var colours = []struct {
	words *regexp.Regexp
	code  string
}{
	{regexp.MustCompile(`^(refused|cannot be used|corrupt|bad)`), "31"},
	{regexp.MustCompile(`^(ready|verified|good)`), "32"},
	{regexp.MustCompile(`^(being read|partial|withdrawn)`), "33"},
}

var (
	column  = regexp.MustCompile(`^(\s*\S+(?: \S+)* {2,})(\S+(?: \S+)*)(.*)$`)
	trouble = regexp.MustCompile(`^(\s*(?:feed |cache |reads )?.{0,200}?)\b(ALARM|WARNING|FAILING|FULL|STALE|READ-ONLY)(:|,|$)`)
	heading = regexp.MustCompile(`^[A-Z]+( +[A-Z]+)+$`)
)

// paint colours text that has passed plainText, if the screen shows colours.
func (s screen) paint(text string) string {
	if !s.colour {
		return text
	}
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		switch {
		case heading.MatchString(line):
			lines[i] = "\x1b[2m" + line + "\x1b[0m"
		case strings.HasPrefix(line, "Next: "):
			lines[i] = "\x1b[1m" + line + "\x1b[0m"
		case trouble.MatchString(line):
			lines[i] = trouble.ReplaceAllString(line, "$1\x1b[1;31m$2\x1b[0m$3")
		default:
			m := column.FindStringSubmatch(line)
			for _, c := range colours {
				if m != nil && c.words.MatchString(m[2]) {
					lines[i] = m[1] + "\x1b[" + c.code + "m" + m[2] + "\x1b[0m" + m[3]
				}
			}
		}
	}
	return strings.Join(lines, "\n")
}
