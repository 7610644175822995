package main

import (
	"io"
	"strings"
	"text/tabwriter"
	"unicode/utf8"
)

// table is rows of aligned cells, each with notes below it: what is too long for
// a column. The text of cells and notes must be fit for a terminal.
type table struct {
	rows  []string
	notes [][]string // by row
}

func (t *table) row(cells ...string) {
	t.rows = append(t.rows, strings.Join(cells, "\t"))
	t.notes = append(t.notes, nil)
}

// note adds a line below the last row; an empty one is none.
func (t *table) note(text string) {
	if last := len(t.notes) - 1; text != "" {
		t.notes[last] = append(t.notes[last], text)
	}
}

// height is how many lines the table takes.
func (t *table) height(width int) int { return strings.Count(t.text(width), "\n") }

// print writes the table.
func (t *table) print(w io.Writer, width int) error {
	_, err := io.WriteString(w, t.text(width))
	return err
}

// text is the table; notes, and the cells of the last column, are broken where they
// are wider than width.
func (t *table) text(width int) string {
	if len(t.rows) == 0 {
		return ""
	}
	var text strings.Builder
	aligned := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	_, _ = io.WriteString(aligned, strings.Join(t.rows, "\n")+"\n") // it writes to memory
	_ = aligned.Flush()
	var b strings.Builder
	last := width // where the last column begins, by its heading
	for i, line := range strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n") {
		line = strings.TrimRight(line, " ")
		if head := t.rows[0][strings.LastIndexByte(t.rows[0], '\t')+1:]; i == 0 && head != "" {
			last = utf8.RuneCountInString(line) - utf8.RuneCountInString(head)
		}
		if runes := []rune(line); len(runes) > width && last < width-15 {
			line = strings.TrimSuffix(wrapped(string(runes[:last]), string(runes[last:]), width), "\n")
		}
		b.WriteString(line + "\n")
		for _, note := range t.notes[i] {
			b.WriteString(wrapped("    ", note, width))
		}
	}
	return b.String()
}

// wrapped is text in lines of at most width characters, if it has words that
// short, the first behind the words of label and the others below its end. A
// width of 0 breaks nothing.
func wrapped(label, text string, width int) string {
	var b strings.Builder
	indent := utf8.RuneCountInString(label)
	b.WriteString(label)
	at := indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case width > 0 && at+1+n > width:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			at = indent
		default:
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += n
	}
	b.WriteByte('\n')
	return b.String()
}

// widthOf is that of the terminal that w is; 0 if it is none.
func widthOf(w io.Writer) int { return screenOf(w).width }
