package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestManualPages(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"man", "groff"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	read := func(page string) string {
		cmd := exec.Command("man", "--warnings", "-l", "-")
		cmd.Stdin = strings.NewReader(page)
		cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8", "MAN_KEEP_FORMATTING=")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil || stderr.Len() > 0 {
			t.Errorf("man: %v, %s", err, stderr.String())
		}
		return string(out)
	}
	helper := read(helperPage())
	for _, k := range optionTable() {
		if !strings.Contains(helper, k.help[:min(len(k.help), 20)]) || !strings.Contains(helper, k.name) {
			t.Errorf("mount.vmcastfs(8) does not explain %s", k.name)
		}
	}
	commands := read(commandPage((&env{}).rootCommand()))
	for _, cmd := range (&env{}).rootCommand().Commands() {
		if !strings.Contains(commands, usageLine(cmd)) && cmd.Runnable() {
			t.Errorf("vmcastfs(1) does not explain %s", cmd.Name())
		}
	}
	for _, c := range exitCodes {
		if !strings.Contains(helper, c.meaning) {
			t.Errorf("mount.vmcastfs(8) does not explain exit code %d", c.code)
		}
	}
}
