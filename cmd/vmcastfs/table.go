package main

import (
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"vmcastfs/feed/show"
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

// cut leaves the first n cells of each row.
func (t *table) cut(n int) {
	for i, row := range t.rows {
		cells := strings.Split(row, "\t")
		t.rows[i] = strings.Join(cells[:min(n, len(cells))], "\t")
	}
}

// height is how many lines the table takes.
func (t *table) height(width int) int { return strings.Count(t.text(width), "\n") }

// print writes the table.
func (t *table) print(w io.Writer, width int) error {
	_, err := io.WriteString(w, t.text(width))
	return err
}

// text is the table. Where it is wider than width, notes and the cells of the last
// column are broken, and a first cell that leaves no room stands above its row.
func (t *table) text(width int) string {
	if len(t.rows) == 0 {
		return ""
	}
	rows, above := t.fit(width)
	var b strings.Builder
	last := width // where the last column begins, by its heading
	for i, line := range align(rows) {
		if head := lastCell(rows[0]); i == 0 && head != "" {
			last = utf8.RuneCountInString(line) - utf8.RuneCountInString(head)
		}
		if runes := []rune(line); len(runes) > width && last < width-15 {
			line = strings.TrimSuffix(wrapped(string(runes[:last]), string(runes[last:]), width), "\n")
		}
		b.WriteString(above[i] + line + "\n")
		for _, note := range t.notes[i] {
			b.WriteString(wrapped("    ", note, width))
		}
	}
	return b.String()
}

// fit takes first cells out of their rows, where the table is wider than width, that
// leave the others no room. They are returned as lines of their own.
func (t *table) fit(width int) (rows, above []string) {
	rows, above = slices.Clone(t.rows), make([]string, len(t.rows))
	wide := func(line string) bool { return utf8.RuneCountInString(line) > width }
	if width == 0 || !slices.ContainsFunc(align(rows), wide) {
		return rows, above
	}
	others := make([]string, len(rows))
	last := 0
	for i, row := range rows {
		_, after, _ := strings.Cut(row, "\t")
		others[i] = "\t" + after
		last = max(last, min(utf8.RuneCountInString(lastCell(row)), 15))
	}
	room := width - utf8.RuneCountInString(align(others)[0]) + utf8.RuneCountInString(lastCell(rows[0])) - last
	for i, row := range rows {
		if first, _, ok := strings.Cut(row, "\t"); ok && utf8.RuneCountInString(first) > max(room, 12) {
			rows[i], above[i] = others[i], first+"\n"
		}
	}
	return rows, above
}

// align is the rows as lines, with their cells in columns.
func align(rows []string) []string {
	var text strings.Builder
	aligned := tabwriter.NewWriter(&text, 0, 8, 2, ' ', 0)
	_, _ = io.WriteString(aligned, strings.Join(rows, "\n")+"\n") // it writes to memory
	_ = aligned.Flush()
	lines := strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return lines
}

func lastCell(row string) string { return row[strings.LastIndexByte(row, '\t')+1:] }

// wrapped is text in lines of at most width characters, if it has words that
// short, the first behind the words of label and the others below its end. A
// width of 0 breaks nothing.
func wrapped(label, text string, width int) string {
	indent := utf8.RuneCountInString(label)
	if width > 0 {
		width = max(width-indent, 1)
	}
	return label + strings.Join(show.Lines(text, width), "\n"+strings.Repeat(" ", indent)) + "\n"
}

// widthOf is that of the terminal that w is; 0 if it is none.
func widthOf(w io.Writer) int { return screenOf(w).width }
