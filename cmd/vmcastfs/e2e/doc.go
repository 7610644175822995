// Package e2e holds the end-to-end tests: they build the binary, run it as a
// stranger would, and look at it from outside. There is a file for each topic;
// harness_test.go starts the binary, material_test.go makes feeds and packages,
// hostile_material_test.go makes wrong ones. The table of all hostile inputs
// is testdata/hostile.txt, and docs/security.md shows it.
package e2e
