package main

import (
	"os"
	"regexp"
	"slices"
	"strings"
)

// updatedbConf is the file of updatedb's package.
const updatedbConf = "/etc/updatedb.conf"

var prunedTypes = regexp.MustCompile(`(?m)^\s*PRUNEFS\s*=\s*"([^"]*)"`)

// updatedbReads tells whether updatedb(8) would walk every release each night, and so
// have it indexed: its file is there and does not leave out mounts of this type.
func updatedbReads(conf string) bool {
	raw, err := os.ReadFile(conf)
	if err != nil {
		return false
	}
	m := prunedTypes.FindSubmatch(raw)
	return m == nil || !slices.Contains(strings.Fields(string(m[1])), "fuse.vmcastfs")
}
