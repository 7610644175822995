package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestRepeatedErrorsAreRare(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	h := newRepeatHandler(slog.NewTextHandler(&out, nil))
	now := time.Now()
	say := func(level slog.Level, msg string, attrs ...any) {
		r := slog.NewRecord(now, level, msg, 0)
		r.Add(attrs...)
		if err := h.WithAttrs([]slog.Attr{slog.String("from", "x")}).Handle(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	lines := func() int { n := strings.Count(out.String(), "\n"); return n }
	for i := range 1000 {
		say(slog.LevelError, "read", "file", "a", "offset", i, "err", errors.New("refused"))
	}
	if n := lines(); n != 1 {
		t.Errorf("one error a thousand times makes %d lines", n)
	}
	say(slog.LevelError, "read", "file", "b", "err", errors.New("refused"))
	if n := lines(); n != 2 {
		t.Errorf("with another file it makes %d lines", n)
	}
	now = now.Add(repeatQuiet)
	out.Reset()
	say(slog.LevelError, "read", "file", "a", "err", errors.New("refused"))
	if !strings.Contains(out.String(), "repeated=999") {
		t.Errorf("after a while it says %s", out.String())
	}
	out.Reset()
	for i := range 1000 {
		say(slog.LevelWarn, "odd", "file", fmt.Sprint("f", i))
	}
	if n := lines(); n != repeatMost {
		t.Errorf("a thousand of a kind make %d lines", n)
	}
	for range 10 {
		say(slog.LevelInfo, "release")
	}
	if n := lines(); n != repeatMost+10 {
		t.Errorf("news are dropped: %d lines", n)
	}
	if n := len(h.seen.same); n > repeatKeys {
		t.Errorf("%d are remembered", n)
	}
}

func TestScrub(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"get https://h/x?a=1&sig=s: refused":        "get https://h/x?...: refused",
		`url="http://u:p@h:80/x" next`:              `url="http://h:80/x" next`,
		"proxy socks5://u:p@h:1":                    "proxy socks5://h:1",
		"https://h/a@b":                             "https://h/a@b",
		"why? see https://h/x.":                     "why? see https://h/x.",
		`err="Get \"https://h/x?token=s\": broken"`: `err="Get \"https://h/x?...\": broken"`,
		"file /a?b":                                 "file /a?b",
	} {
		if got := string(scrub([]byte(in))); got != want {
			t.Errorf("%s becomes %s, want %s", in, got, want)
		}
	}
}
