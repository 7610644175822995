package xvm

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

// testdata/tar/package.tar was written by GNU tar 1.34 (--format=posix --sparse --label). Its index, as version 1 of
// the format has it, must be accepted by every later version, and be what the walk finds as long as that is version 1.
func TestTarGoldenIndex(t *testing.T) {
	t.Parallel()
	archive, err := os.ReadFile("testdata/tar/package.tar")
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := os.ReadFile("testdata/tar/index-v1.json")
	if err != nil {
		t.Fatal(err)
	}
	golden := new(Index)
	if err := json.Unmarshal(encoded, golden); err != nil {
		t.Fatal(err)
	}
	if err := golden.Validate(); err != nil {
		t.Fatal(err)
	}
	x, err := tarWalkBytes(t, archive, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(x, golden) {
		got, _ := json.MarshalIndent(x, "", "\t")
		t.Errorf("the walk finds another index:\n%s", got)
	}
}
