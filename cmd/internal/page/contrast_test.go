package page

import (
	"math"
	"regexp"
	"strconv"
	"testing"
)

// colours are those of the two schemes, by their names.
func colours(t *testing.T) (list []map[string]float64) {
	t.Helper()
	css, err := static.ReadFile("static/picture.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, root := range regexp.MustCompile(`:root\{([^}]*)\}`).FindAllSubmatch(css, -1) {
		m := map[string]float64{}
		for _, c := range regexp.MustCompile(`--(\w+):#([0-9a-f]{3}|[0-9a-f]{6})(?:;|$)`).FindAllSubmatch(root[1], -1) {
			hex := string(c[2])
			if len(hex) == 3 {
				hex = string([]byte{hex[0], hex[0], hex[1], hex[1], hex[2], hex[2]})
			}
			rgb, _ := strconv.ParseUint(hex, 16, 32)
			m[string(c[1])] = luminance(rgb)
		}
		list = append(list, m)
	}
	return list
}

// luminance is the relative luminance of WCAG 2.
func luminance(rgb uint64) float64 {
	part := func(n uint64) float64 {
		c := float64(n&255) / 255
		if c <= 0.03928 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	return 0.2126*part(rgb>>16) + 0.7152*part(rgb>>8) + 0.0722*part(rgb)
}

func contrast(a, b float64) float64 { return (max(a, b) + 0.05) / (min(a, b) + 0.05) }

// TestContrast: in the light and in the dark, text has the contrast that WCAG 2.1 AA asks
// for, and so has what is drawn.
func TestContrast(t *testing.T) {
	t.Parallel()
	list := colours(t)
	if len(list) != 2 || len(list[0]) != len(list[1]) || len(list[0]) < 13 {
		t.Fatalf("%d schemes: %v", len(list), list)
	}
	for i, scheme := range []string{"light", "dark"} {
		for least, names := range map[float64][]string{
			4.5: {"ink", "muted", "link", "corrupt"},
			3:   {"fetched", "verified", "elsewhere", "wait", "tick"},
		} {
			for _, name := range names {
				for _, behind := range []string{"card", "bg"} {
					a, ok := list[i][name]
					b, ok2 := list[i][behind]
					if got := contrast(a, b); !ok || !ok2 || got < least {
						t.Errorf("%s: %s on %s has %.2f of %.1f", scheme, name, behind, got, least)
					}
				}
			}
		}
	}
}
