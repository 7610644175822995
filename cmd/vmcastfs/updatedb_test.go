package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUpdatedbReads(t *testing.T) {
	t.Parallel()
	conf := filepath.Join(t.TempDir(), "updatedb.conf")
	if updatedbReads(conf) {
		t.Error("there is no updatedb")
	}
	for text, want := range map[string]bool{
		"PRUNEFS=\"NFS tmpfs\"\n": true, "": true, "#PRUNEFS=\"fuse.vmcastfs\"\n": true, "PRUNEFS=\"fuse.vmcastfs2\"": true,
		"A=\"b\"\n PRUNEFS = \"NFS fuse.vmcastfs\" # ours": false, "PRUNEFS=\"fuse.vmcastfs\n tmpfs\"": false,
	} {
		if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := updatedbReads(conf); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
