package main

import "testing"

func TestJournalPriorities(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"level=ERROR msg=x": "<3>", "level=WARN msg=x": "<4>", "level=INFO msg=x": "<6>", "level=DEBUG msg=x": "<7>",
	} {
		if got := priority([]byte(line)); got != want {
			t.Errorf("%q has priority %s", line, got)
		}
	}
}
