//go:build ignore

// Verdict reads the events of a run of all tests, as `go test -json` has them,
// and says what is behind its success:
//
//	go run .ci/verdict.go EVENTS
//
// A test that left itself out proves nothing, and is a failure in CI (CI=true), unless
// it is a long form: those say so, and are named.
// A test that failed and then passed, run a second time by itself, is flaky: all
// are named, and more than one is a failure. The packages that took longest come
// last.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // in seconds
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: verdict EVENTS")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err == nil {
		defer f.Close()
		err = verdict(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func verdict(events io.Reader) error {
	skipped, long, failed, flaky := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	took := map[string]float64{}
	for dec := json.NewDecoder(events); ; {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		test, _, sub := strings.Cut(e.Test, "/")
		name := e.Package + "." + test
		switch {
		case e.Test == "":
			took[e.Package] += e.Elapsed
		case e.Action == "output" && strings.Contains(e.Output, ": a long form: "):
			long[e.Package+"."+e.Test] = true
		case e.Action == "skip" && !long[e.Package+"."+e.Test]:
			skipped[e.Package+"."+e.Test] = true
		case e.Action == "fail":
			failed[name] = true
		case e.Action == "pass" && !sub && failed[name]:
			flaky[name] = true
		}
	}
	list := func(title string, names map[string]bool) {
		if len(names) > 0 {
			fmt.Printf("%s:\n  %s\n", title, strings.Join(slices.Sorted(maps.Keys(names)), "\n  "))
		}
	}
	slowest := slices.SortedFunc(maps.Keys(took), func(a, b string) int { return int(1000 * (took[b] - took[a])) })
	fmt.Println("longest:")
	for _, p := range slowest[:min(6, len(slowest))] {
		fmt.Printf("  %6.1f s  %s\n", took[p], p)
	}
	list("long forms, not run", long)
	list("left out", skipped)
	list("flaky: failed, and passed when run again", flaky)
	if len(skipped) > 0 && os.Getenv("CI") == "true" {
		return errors.New("tests were left out")
	}
	if len(flaky) > 1 {
		return fmt.Errorf("%d tests are flaky, at most one may be", len(flaky))
	}
	return nil
}
