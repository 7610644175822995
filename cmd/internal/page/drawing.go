package page

import (
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"vmcastfs/fs/catalog"
)

// drawing is the picture of one image as a file of its own.
type drawing struct {
	Hero                 hero
	When                 string
	Style                template.CSS
	Width, Height, Inner int
	BarY, PlotX, PlotY   int
	PlotWidth            int
	Titles, Lines, Axes  []text
	StateY               int
	Legend               []text
}

// text is a line of text, and for a legend the square before it.
type text struct {
	X, Y, TextX, TextY int
	Class, Text        string
}

const (
	drawingWidth = 1000
	margin       = 24
	lineLength   = 104 // characters
	titleLength  = 72  // of the wider ones of the title
)

// Check refuses what no mount tells of an image: it may be anybody's.
func Check(b *catalog.Boot) error {
	for _, p := range b.Pieces {
		if p.Blocks <= 0 || p.Here < 0 || p.Zero < 0 || p.Here > p.Blocks || p.Zero > p.Here || p.Coming < 0 || p.Elsewhere < 0 || p.Elsewhere > p.Here-p.Zero {
			return errors.New("this is no state of an image")
		}
	}
	if len(b.Pieces) > 4096 {
		return errors.New("this is no state of an image")
	}
	if b.Boot != nil {
		return b.Boot.Check()
	}
	return nil
}

// WriteSVG draws the picture of an image; WriteHTML puts it into a page of its own.
func WriteSVG(w io.Writer, b catalog.Boot, now time.Time) error {
	return templates.ExecuteTemplate(w, "picture.svg", newDrawing(b, now))
}

// WriteHTML is WriteSVG, as a page that needs nothing else.
func WriteHTML(w io.Writer, b catalog.Boot, now time.Time) error {
	return templates.ExecuteTemplate(w, "picture.html", newDrawing(b, now))
}

func newDrawing(b catalog.Boot, now time.Time) drawing {
	style, _ := static.ReadFile("static/picture.css") // it is embedded
	d := drawing{Hero: heroOf(b.Release, b.Status), Style: template.CSS(style), Width: drawingWidth, Inner: drawingWidth - 2*margin}
	d.Hero.Bar, d.Hero.Line, d.Hero.Sentence = newBar(b.Picture), newTimeline(b.Boot), Sentence(b.Picture, now)
	y := 38
	titles := []string{d.Hero.Release + " / " + d.Hero.File}
	if utf8.RuneCountInString(titles[0]) > titleLength {
		titles = []string{d.Hero.Release + " /", d.Hero.File}
	}
	for _, t := range titles {
		if r := []rune(t); len(r) > titleLength {
			t = string(r[:titleLength-1]) + "…"
		}
		d.Titles = append(d.Titles, text{Y: y, Text: t})
		y += 28
	}
	d.StateY = y - 6
	y += 26
	for _, line := range wrap(d.Hero.Sentence, lineLength) {
		d.Lines = append(d.Lines, text{Y: y, Text: line})
		y += 25
	}
	d.BarY = y - 12
	y = d.legend(d.BarY+70, d.Hero.Bar.Shares)
	if l := d.Hero.Line; l != nil {
		d.When = b.Boot.Begun.Format("2006-01-02 15:04")
		d.PlotX, d.PlotY, d.PlotWidth = margin+66, y+22, drawingWidth-2*margin-80
		for i, label := range l.Y {
			d.Axes = append(d.Axes, text{X: d.PlotX - 8, Y: d.PlotY + i*plotHeight/(len(l.Y)-1) + 4, Class: "end", Text: label})
		}
		for i, label := range l.X {
			d.Axes = append(d.Axes, text{X: d.PlotX + i*d.PlotWidth/(len(l.X)-1), Y: d.PlotY + plotHeight + 20, Class: "middle", Text: label})
		}
		keys := []Share{{"keydot", "a read", -1}, {"keywait", "a guest waited, so long", -1}, {"area", "fetched ahead of it", -1}}
		if l.Elsewhere != "" {
			keys = append(keys, Share{classElsewhere, "taken from elsewhere", -1})
		}
		y = d.legend(d.PlotY+plotHeight+36, keys)
	}
	d.Height = y + margin
	return d
}

// legend puts a legend at y, and returns where it ends.
func (d *drawing) legend(y int, shares []Share) int {
	x := margin
	for _, s := range shares {
		label := s.Name
		if s.Percent >= 0 {
			label = fmt.Sprintf("%s %s", percent(s.Percent), s.Name)
		}
		d.Legend = append(d.Legend, text{X: x, Y: y, TextX: x + 18, TextY: y + 10, Class: s.Class, Text: label})
		x += 40 + 8*utf8.RuneCountInString(label)
	}
	return y + 14
}

// wrap breaks a sentence into lines.
func wrap(s string, width int) (lines []string) {
	line := ""
	for _, word := range strings.Fields(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	return append(lines, line)
}
