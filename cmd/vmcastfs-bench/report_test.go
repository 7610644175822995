package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// result is one measurement of one subject in one test.
type result struct {
	Test    string `json:"test"`
	Subject string `json:"subject"`
	// Seconds, or a rate if Unit says of what.
	Value    float64 `json:"value"`
	Unit     string  `json:"unit"` // "s", "MB/s", "reads/s"
	Bytes    int64   `json:"bytes,omitempty"`
	Requests int64   `json:"requests,omitempty"`
	Memory   int64   `json:"resident,omitempty"` // peak, of the daemon
	// Against is another subject of the same test and run; Ratio is Value
	// divided by its Value.
	Against string  `json:"against,omitempty"`
	Ratio   float64 `json:"ratio,omitempty"`
	Target  *target `json:"target,omitempty"`
	Note    string  `json:"note,omitempty"`
}

// target is what a result has to keep to; zero fields do not count.
type target struct {
	Most     float64 `json:"most,omitempty"`      // Value
	Bytes    int64   `json:"bytes,omitempty"`     // at most
	Memory   int64   `json:"resident,omitempty"`  // at most
	MaxRatio float64 `json:"max_ratio,omitempty"` //
	MinRatio float64 `json:"min_ratio,omitempty"` //
	NoBytes  bool    `json:"no_bytes,omitempty"`  // but one in each request, which tells whether the archive is the same
}

func (t *target) missed(r row) bool {
	if t == nil {
		return false
	}
	return t.Most > 0 && r.Value > t.Most || t.Bytes > 0 && r.Bytes > t.Bytes ||
		t.Memory > 0 && r.Memory > t.Memory || t.MaxRatio > 0 && r.Ratio > t.MaxRatio ||
		t.MinRatio > 0 && r.Ratio < t.MinRatio || t.NoBytes && r.Bytes > r.Requests
}

func (t *target) String() string {
	if t == nil {
		return ""
	}
	var s []string
	add := func(on bool, format string, args ...any) {
		if on {
			s = append(s, fmt.Sprintf(format, args...))
		}
	}
	add(t.Most > 0, "≤ %g s", t.Most)
	add(t.Bytes > 0, "≤ %g MB", float64(t.Bytes)/1e6)
	add(t.Memory > 0, "≤ %d MiB", t.Memory>>20)
	add(t.MaxRatio > 0, "≤ %.2f×", t.MaxRatio)
	add(t.MinRatio > 0, "≥ %.2f×", t.MinRatio)
	add(t.NoBytes, "0 MB")
	return strings.Join(s, ", ")
}

// row is the medians of a result over all runs.
type row struct {
	result
	Values []float64 `json:"values"`
	Missed bool      `json:"missed,omitempty"`
}

// summary joins the runs: medians, ratios within each run.
func summary(runs [][]result) (rows []row) {
	for _, results := range runs {
		for i := range results {
			r := &results[i]
			for _, other := range results {
				if r.Against != "" && other.Test == r.Test && other.Subject == r.Against && other.Value > 0 {
					r.Ratio = r.Value / other.Value
				}
			}
			if !slices.ContainsFunc(rows, func(x row) bool { return x.Test == r.Test && x.Subject == r.Subject }) {
				rows = append(rows, row{result: result{
					Test: r.Test, Subject: r.Subject, Unit: r.Unit, Against: r.Against, Target: r.Target, Note: r.Note,
				}})
			}
		}
	}
	for i := range rows {
		x := &rows[i]
		var ratios, bytes, requests, memory []float64
		for _, results := range runs {
			for _, r := range results {
				if r.Test == x.Test && r.Subject == x.Subject {
					x.Values = append(x.Values, r.Value)
					ratios, bytes = append(ratios, r.Ratio), append(bytes, float64(r.Bytes))
					requests, memory = append(requests, float64(r.Requests)), append(memory, float64(r.Memory))
				}
			}
		}
		x.Value, x.Ratio = median(x.Values), median(ratios)
		x.Bytes, x.Requests, x.Memory = int64(median(bytes)), int64(median(requests)), int64(median(memory))
		x.Missed = x.Target.missed(*x)
	}
	return rows
}

// median of the values; the lower middle one of an even number.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Clone(v)
	slices.Sort(v)
	return v[(len(v)-1)/2]
}

func writeJSON(w io.Writer, machine string, runs int, rows []row) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(map[string]any{"machine": machine, "runs": runs, "rows": rows})
}

// writeTable is for people: a heading for each test, a line for each subject.
func writeTable(w io.Writer, machine string, runs int, rows []row) error {
	fmt.Fprintf(w, "%s; medians of %d runs\n", machine, runs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var test string
	for _, r := range rows {
		if r.Test != test {
			if err := t.Flush(); err != nil {
				return err
			}
			test = r.Test
			fmt.Fprintf(w, "\n%s\n", test)
		}
		cells := []string{r.Subject, value(r.Value, r.Unit)}
		cells = append(cells, when(r.Requests > 0 || r.Bytes > 0 || r.Target != nil && r.Target.NoBytes, "%.1f MB in %d requests", float64(r.Bytes)/1e6, r.Requests))
		cells = append(cells, when(r.Memory > 0, "%d MiB", r.Memory>>20), when(r.Ratio > 0, "%.2f × %s", r.Ratio, r.Against))
		verdict := r.Target.String()
		if r.Target != nil {
			verdict += map[bool]string{true: "  MISSED", false: "  ok"}[r.Missed]
		}
		cells = append(cells, verdict, r.Note)
		fmt.Fprintln(t, "  "+strings.TrimRight(strings.Join(cells, "\t"), "\t"))
	}
	return t.Flush()
}

func value(v float64, unit string) string {
	switch {
	case v == 0:
		return "–"
	case v >= 100:
		return fmt.Sprintf("%.0f %s", v, unit)
	}
	return fmt.Sprintf("%.2f %s", v, unit)
}

func when(on bool, format string, args ...any) string {
	if !on {
		return ""
	}
	return fmt.Sprintf(format, args...)
}
