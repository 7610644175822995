package e2e

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestImportRefusesAnOldCatalogue: a catalogue that was signed before the one that the feed
// was made of is not imported over it, neither its index nor a list of it, nor a file of
// sums, until the user says so. What a new catalogue still lists of old versions stays.
func TestImportRefusesAnOldCatalogue(t *testing.T) {
	t.Parallel()
	s := newStreams(t)
	s.g.key("past", "ed25519", "never", sigPast)
	s.keys = s.g.ring("past")
	sign := func(path string, doc any, at string) {
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		s.origin.PutBytes(path, s.g.sign("past", append(text, '\n'), "--clear-sign", "--faked-system-time="+at+"!"))
	}
	sums := "/sums/SHA256SUMS"
	serve := func(index, list string) {
		sign("/streams/v1/index.sjson", s.index(), index)
		sign(streamsProducts, s.products(), list)
		text := []byte(hexSHA256(noise(4096, 7)) + "  b-" + list[:8] + ".img\n")
		s.origin.PutBytes("/sums/b-"+list[:8]+".img", noise(4096, 7))
		s.origin.PutBytes(sums, text)
		s.origin.PutBytes(sums+".gpg", s.g.sign("past", text, "--faked-system-time="+list+"!"))
	}
	dir := t.TempDir()
	streams, files := filepath.Join(dir, "streams.xml"), filepath.Join(dir, "sums.xml")
	unsigned := false
	want := func(when string, code int, reason string, more ...string) {
		t.Helper()
		before := [2]string{string(readIf(streams)), string(readIf(files))}
		for i, args := range [][]string{{"--only", "arch=x86_64", "-o", streams, s.at}, {"-o", files, s.origin.URL() + sums}} {
			how := []string{"--keyring", s.keys}
			if unsigned {
				how = []string{"--unsigned"}
			}
			text, err := s.run(slices.Concat([]string{"feed", "import"}, how, more, args)...)
			if exitCode(err) != code || !strings.Contains(text, reason) {
				t.Errorf("%s: want %d and %q: %v\n%s", when, code, reason, err, text)
			}
			if code != 0 && before[i] != string(readIf([]string{streams, files}[i])) {
				t.Errorf("%s: the feed has changed", when)
			}
		}
	}
	const first, second, third = "20210101T120000", "20210201T120000", "20210301T120000"
	s.image("20240101", "a.img", "disk1.img", noise(4096, 1))
	serve(first, first)
	want("the first", 0, "1 new")
	s.image("20240601", "a.img", "disk1.img", noise(4096, 2))
	serve(third, second)
	want("a newer one, with the old version still there", 0, "1 new")
	want("the same again", 0, "unchanged")
	// Who takes it once without its signature has not forgotten that.
	unsigned = true
	s.image("20240701", "a.img", "disk1.img", noise(4096, 3))
	serve(third, second)
	want("unsigned", 0, "no signature was checked")
	unsigned = false
	delete(s.versions, "20240701")
	delete(s.versions, "20240601")
	serve(first, first)
	want("replayed", 1, "this is an old catalogue")
	serve(third, first)
	want("an old list under a new index", 1, "--older takes it")
	want("accepted", 0, "gone", "--older")
	want("from then on", 0, "unchanged")
}
