package e2e

import (
	"bytes"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
	"vmcastfs/feed"
)

type object = map[string]any

// streams is a server of simplestreams, as those of Ubuntu are.
type streams struct {
	*world
	g        *gnupg
	versions object
	keys     string
	at       string // of the index
}

const streamsProducts = "/streams/v1/com.ubuntu.cloud:released:download.sjson"

func newStreams(t *testing.T) *streams {
	g := newGnuPG(t)
	g.key("cloud", "ed25519", "never")
	s := &streams{world: bareWorld(t), g: g, versions: object{}, keys: g.ring("cloud")}
	s.at = s.origin.URL() + "/streams/v1/index.sjson"
	return s
}

// image puts a file of a version on the server, with one that is none.
func (s *streams) image(version, name, kind string, content []byte) (path string) {
	path = "server/releases/noble/release-" + version + "/" + name
	s.origin.PutBytes("/"+path, content)
	v, _ := s.versions[version].(object)
	if v == nil {
		v = object{"label": "release", "items": object{"manifest": object{"ftype": "manifest", "path": path + ".manifest", "sha256": strings.Repeat("1", 64), "size": 5}}}
		s.versions[version] = v
	}
	v["items"].(object)[kind] = object{"ftype": kind, "path": path, "sha256": hexSHA256(content), "md5": hexMD5(content), "size": len(content)}
	return "/" + path
}

func (s *streams) products() object {
	return object{"format": "products:1.0", "datatype": "image-downloads", "content_id": "com.ubuntu.cloud:released:download", "products": object{
		"com.ubuntu.cloud:server:24.04:amd64": object{"arch": "amd64", "os": "ubuntu", "release": "noble", "release_title": "24.04 LTS", "version": "24.04", "versions": s.versions},
		"com.ubuntu.cloud:server:24.04:s390x": object{"arch": "s390x", "os": "ubuntu", "versions": object{"20240101": object{"items": object{
			"disk1.img": object{"ftype": "disk1.img", "path": "../odd.img", "sha256": "none"}}}}},
	}}
}

func (s *streams) index() object {
	return object{"format": "index:1.0", "index": object{
		"com.ubuntu.cloud:released:download": object{"datatype": "image-downloads", "format": "products:1.0", "path": streamsProducts[1:]},
		"com.ubuntu.cloud:released:aws":      object{"datatype": "image-ids", "path": "streams/v1/aws.sjson"},
	}}
}

func (s *streams) serve(path string, doc any) {
	text, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		s.t.Fatal(err)
	}
	s.origin.PutBytes(path, s.g.sign("cloud", append(text, '\n'), "--clear-sign"))
}

func (s *streams) update() {
	s.serve("/streams/v1/index.sjson", s.index())
	s.serve(streamsProducts, s.products())
}

func (s *streams) imports(out string, more ...string) (string, error) {
	return s.run(append([]string{"feed", "import", "--keyring", s.keys, "--only", "arch=x86_64", "-o", out}, append(more, s.at)...)...)
}

// TestImportedCatalogue: a catalogue of simplestreams becomes a feed. A guest's overlay over a
// qcow2 image of it reads what it asks for, each block checked by the sidecar, and no more.
func TestImportedCatalogue(t *testing.T) {
	t.Parallel()
	s := newStreams(t)
	dir := t.TempDir()
	raw := append(noise(24<<20, 1), bytes.Repeat([]byte{0x5a}, 1<<20)...)
	raw = append(raw, noise(3<<20, 2)...)
	disk := filepath.Join(dir, "disk.raw")
	if err := os.WriteFile(disk, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "ubuntu-24.04-server-cloudimg-amd64.img"
	if out, err := command(t, dir, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", disk, name); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	qcow := readAll(t, filepath.Join(dir, name))
	old := s.image("20240101", name, "disk1.img", noise(1<<20, 3))
	newer := s.image("20240601", name, "disk1.img", qcow)
	s.image("20240601", "ubuntu-24.04.raw.xz", "root.raw.xz", filter(t, noise(1<<20, 4), "xz", "-c"))
	s.update()
	// The feed and the sidecars are served by somebody else than the images.
	out := filepath.Join(dir, "vmcast.xml")
	text, key, ring := s.importSidecars(dir, s.at)
	if !strings.Contains(text, "3 releases, 3 new, 0 gone, 3 sidecars; signed by cloud") {
		t.Fatal(text)
	}
	f, err := feed.Parse(feed.Document{Body: readAll(t, out), FinalURL: s.origin.URL()})
	if err != nil || len(f.Releases) != 3 {
		t.Fatalf("%v %+v", err, f)
	}

	// Again: nothing is asked for again.
	if text, err := s.imports(out, "--index", "--sign", key); err != nil || !strings.Contains(text, "unchanged, 3 releases") {
		t.Errorf("%v\n%s", err, text)
	}
	if n := s.origin.Stats(newer).Requests + s.origin.Stats(old).Requests; n > 0 {
		t.Errorf("%d requests for images that the feed has", n)
	}

	s.mount("keyring="+ring, "sidecar="+s.origin.URL()+"/own/", "complete=off", "profile=off")
	release := "ubuntu-server-24.04-amd64-20240601-disk1.img"
	base := s.world.path(release, name)
	overlay := filepath.Join(dir, "overlay.qcow2")
	for _, args := range [][]string{
		{"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", base, overlay},
		{"qemu-io", "-c", "read -P 0x5a 24M 1M", "-c", "write -P 1 0 64k", "-c", "read -P 1 0 64k", overlay},
	} {
		out, err := command(t, dir, args[0], args[1:]...)
		if err != nil || strings.Contains(out, "failed") {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
	}
	if st := s.file(release, name); st.Verify != "block" || st.State != "partial" {
		t.Errorf("%+v", st)
	}
	if n := s.origin.Stats(newer).BytesSent; n > int64(len(qcow))*15/100 {
		t.Errorf("%d bytes of %d were fetched", n, len(qcow))
	}
	s.wantFile(noise(1<<20, 3), "ubuntu-server-24.04-amd64-20240101", name)
	s.wantFile(noise(1<<20, 4), "ubuntu-server-24.04-amd64-20240601-root.raw.xz", "ubuntu-24.04.raw")
	if notes := string(readAll(t, s.world.path(release, "notes.html"))); !strings.Contains(notes, hexSHA256(qcow)) || !strings.Contains(notes, "signed by cloud") {
		t.Error("notes:", notes)
	}
	if text, err := s.run("verify", "--options", s.options("sig=require", "keyring="+ring, "sidecar="+dir), s.feed); err != nil {
		t.Errorf("verify: %v\n%s", err, text)
	}
	s.umount()

	// A version comes, one goes. Only the new one is read.
	s.origin.ResetStats()
	s.image("20240901", name, "disk1.img", noise(1<<20, 5))
	delete(s.versions, "20240101")
	s.update()
	text, err = s.imports(out, "--index", "--sign", key, "--json")
	var told struct {
		New, Indexed, Gone []string
		Releases           int
		Changed            bool
	}
	if err == nil {
		err = json.Unmarshal([]byte(text), &told)
	}
	if err != nil || len(told.New) != 1 || len(told.Indexed) != 1 || len(told.Gone) != 1 || told.Releases != 3 || !told.Changed {
		t.Errorf("%v\n%s", err, text)
	}
	if n := s.origin.Stats(newer).Requests; n > 0 {
		t.Errorf("%d requests for an image that the feed has", n)
	}

	// Who serves other bytes than the catalogue says is found out.
	lie := s.image("20241001", name, "disk1.img", noise(1<<20, 6))
	s.origin.PutBytes(lie, noise(1<<20, 7))
	s.update()
	before := readAll(t, out)
	text, err = s.imports(out, "--index", "--sign", key)
	if exitCode(err) != 1 || !strings.Contains(text, "its sha256 is") || !bytes.Equal(readAll(t, out), before) {
		t.Errorf("a lie: %v\n%s", err, text)
	}
	s.origin.PutBytes(lie, noise(2<<20, 7))
	if text, err = s.imports(out, "--index", "--sign", key); exitCode(err) != 1 || !strings.Contains(text, "the server has") {
		t.Errorf("another size: %v\n%s", err, text)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestS15CatalogueTampered: whatever is not as it should be in a catalogue refuses it, with the
// reason, and no feed is written.
func TestS15CatalogueTampered(t *testing.T) {
	t.Parallel()
	s := newStreams(t)
	s.g.key("other", "ed25519", "never")
	s.g.key("old", "ed25519", "1d", sigPast)
	s.keys = s.g.ring("cloud", "old")
	s.image("20240601", "a.img", "disk1.img", noise(4096, 1))
	edit := func(change func(item object)) func() {
		return func() {
			p := s.products()
			item := maps.Clone(s.versions["20240601"].(object)["items"].(object)["disk1.img"].(object))
			change(item)
			p["products"].(object)["com.ubuntu.cloud:server:24.04:amd64"].(object)["versions"] = object{"20240601": object{"items": object{"disk1.img": item}}}
			s.serve(streamsProducts, p)
		}
	}
	set := func(field string, value any) func() { return edit(func(item object) { item[field] = value }) }
	text := func(doc object) []byte {
		b, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		return append(b, '\n')
	}
	put := func(path string, content []byte) func() { return func() { s.origin.PutBytes(path, content) } }
	signed := s.g.sign("cloud", text(s.products()), "--clear-sign")
	doubled := strings.Replace(string(text(s.products())), `"format"`, `"format":"index:1.0","format"`, 1)
	for name, c := range map[string]struct {
		change func()
		reason string
	}{
		"a byte":           {put(streamsProducts, bytes.Replace(signed, []byte("noble"), []byte("noblE"), 1)), "does not match"},
		"another key":      {put(streamsProducts, s.g.sign("other", text(s.products()), "--clear-sign")), "not in the keyring"},
		"expired key":      {put(streamsProducts, s.g.sign("old", text(s.products()), "--clear-sign", "--faked-system-time=20200101T120000!")), "expired"},
		"no signature":     {put(streamsProducts, text(s.products())), "not signed"},
		"index not signed": {put("/streams/v1/index.sjson", text(s.index())), "not signed"},
		"something before": {put(streamsProducts, append([]byte("x\n"), signed...)), "not signed"},
		"something behind": {put(streamsProducts, append(bytes.Clone(signed), "{}\n"...)), "around it"},
		"another list": {func() {
			p := s.products()
			p["content_id"] = "com.ubuntu.cloud:daily:download"
			s.serve(streamsProducts, p)
		}, "the index names"},
		"a page":      {put(streamsProducts, s.g.sign("cloud", []byte("<html>\n"), "--clear-sign")), "no JSON"},
		"a key twice": {put(streamsProducts, s.g.sign("cloud", []byte(doubled), "--clear-sign")), "twice"},
		"cut":         {put(streamsProducts, s.g.sign("cloud", text(s.products())[:300], "--clear-sign")), "bad catalogue"},
		"index path": {func() {
			i := s.index()
			i["index"].(object)["com.ubuntu.cloud:released:download"].(object)["path"] = "http://evil.example/p.sjson"
			s.serve("/streams/v1/index.sjson", i)
		}, "leads elsewhere"},
		"index names nothing": {func() { s.serve("/streams/v1/index.sjson", object{"format": "index:1.0", "index": object{}}) }, "names no products"},
		"another format":      {func() { s.serve("/streams/v1/index.sjson", object{"format": "index:9.9"}) }, "its format"},
		"path out":            {set("path", "server/../../a.img"), "leads out"},
		"path up":             {set("path", "../a.img"), "leads out"},
		"path from the root":  {set("path", "/etc/a.img"), "leads elsewhere"},
		"path on a host":      {set("path", "//evil.example/a.img"), "leads elsewhere"},
		"URL":                 {set("path", "https://evil.example/a.img"), "leads elsewhere"},
		"javascript":          {set("path", "javascript:alert(1).img"), "leads elsewhere"},
		"escapes":             {set("path", "server/%2e%2e/a.img"), "no path"},
		"control characters":  {set("path", "server/\x1b[31ma.img"), "no path"},
		"long path":           {set("path", strings.Repeat("a/", 5000)+"a.img"), "a text of"},
		"negative size":       {set("size", -5), "no size"},
		"huge size":           {set("size", 1e18), "no size"},
		"broken size":         {set("size", 1.5), "no size"},
		"size as text":        {set("size", "4096"), "no size"},
		"short sum":           {set("sha256", "abcd"), "is none of 64"},
		"long sum":            {set("sha256", strings.Repeat("a", 128)), "is none of 64"},
		"no sum":              {edit(func(item object) { delete(item, "sha256") }), "no sum that proves it"},
		"sum of zero digits":  {set("sha256", strings.Repeat("g", 64)), "is none of 64"},
	} {
		s.update()
		c.change()
		out := filepath.Join(t.TempDir(), "vmcast.xml")
		text, err := s.imports(out)
		if exitCode(err) != 1 || !strings.Contains(text, c.reason) || strings.Contains(text, "\x1b") {
			t.Errorf("%s: want %q: %v\n%s", name, c.reason, err, text)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: there is a feed", name)
		}
	}
	s.update()
	if text, err := s.imports(filepath.Join(t.TempDir(), "vmcast.xml")); err != nil {
		t.Errorf("what was not tampered with: %v\n%s", err, text)
	}
	if text, err := s.run("feed", "import", s.at); exitCode(err) != 1 || !strings.Contains(text, "whose catalogue") {
		t.Errorf("without keys: %v\n%s", err, text)
	}
}

func readIf(path string) []byte { b, _ := os.ReadFile(path); return b }

// TestFilesOfSums: the files of sums of several publishers become feeds, which mounts read.
func TestFilesOfSums(t *testing.T) {
	t.Parallel()
	g := newGnuPG(t)
	g.key("distro", "rsa3072", "never")
	keys := g.ring("distro")
	image := noise(300_000, 1)
	sha512sum := fmt.Sprintf("%x", sha512.Sum512(image))
	gnu := fmt.Sprintf("%s *debian-12-generic-amd64-20240601-1.qcow2\n%s  ./SOURCES.txt\n", hexSHA256(image), strings.Repeat("0", 64))
	fedora := fmt.Sprintf("# Fedora-Cloud-40-1.14.x86_64.qcow2: %d bytes\nSHA256 (Fedora-Cloud-40-1.14.x86_64.qcow2) = %s\n", len(image), hexSHA256(image))
	for name, c := range map[string]struct {
		files  map[string]string // but for the image
		image  string
		at     string
		signed bool
		title  string
	}{
		"Debian": {map[string]string{"/d/20240601-1/SHA256SUMS": gnu, "/d/20240601-1/SHA256SUMS.sign": string(g.sign("distro", []byte(gnu)))},
			"/d/20240601-1/debian-12-generic-amd64-20240601-1.qcow2", "/d/20240601-1/", true, "debian-12-generic-amd64-20240601-1"},
		"Ubuntu": {map[string]string{"/noble/20240612/SHA256SUMS": hexSHA256(image) + " *noble-server-cloudimg-amd64.img\n",
			"/noble/20240612/SHA256SUMS.gpg": string(g.sign("distro", []byte(hexSHA256(image)+" *noble-server-cloudimg-amd64.img\n")))},
			"/noble/20240612/noble-server-cloudimg-amd64.img", "/noble/20240612/SHA256SUMS", true, "noble-server-cloudimg-amd64-20240612"},
		"SHA-512": {map[string]string{"/d/SHA512SUMS": sha512sum + "  debian-12-generic-arm64.qcow2\n"},
			"/d/debian-12-generic-arm64.qcow2", "/d/", false, "debian-12-generic-arm64"},
		"Fedora": {map[string]string{"/40/images/Fedora-Cloud-40-1.14-x86_64-CHECKSUM": string(g.sign("distro", []byte(fedora), "--clear-sign"))},
			"/40/images/Fedora-Cloud-40-1.14.x86_64.qcow2", "/40/images/Fedora-Cloud-40-1.14-x86_64-CHECKSUM", true, "Fedora-Cloud-40-1.14.x86_64"},
		"Alpine": {map[string]string{"/v3.20/nocloud_alpine-3.20.3-x86_64-bios.qcow2.sha512": sha512sum + "\n"},
			"/v3.20/nocloud_alpine-3.20.3-x86_64-bios.qcow2", "/v3.20/nocloud_alpine-3.20.3-x86_64-bios.qcow2.sha512", false, "nocloud_alpine-3.20.3-x86_64-bios"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := bareWorld(t)
			for path, content := range c.files {
				w.origin.PutBytes(path, []byte(content))
			}
			w.origin.PutBytes(c.image, image)
			out := filepath.Join(t.TempDir(), "vmcast.xml")
			args := []string{"feed", "import", "--only", "newest=1", "-o", out}
			if c.signed {
				if text, err := w.run(append(args, "--keyring", newGnuPGRing(t), w.origin.URL()+c.at)...); exitCode(err) != 1 || !strings.Contains(text, "not in the keyring") {
					t.Errorf("with another key: %v\n%s", err, text)
				}
				args = append(args, "--keyring", keys)
			} else {
				if text, err := w.run(append(args, "--keyring", keys, w.origin.URL()+c.at)...); exitCode(err) != 1 || !strings.Contains(text, "not signed") {
					t.Errorf("with a key: %v\n%s", err, text)
				}
				args = append(args, "--unsigned")
			}
			if text, err := w.run(append(args, w.origin.URL()+c.at)...); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			w.feed = out
			w.mount("sig=ignore")
			w.wantFile(image, c.title, filepath.Base(c.image))
			if st := w.file(c.title, filepath.Base(c.image)); st.State != "verified" {
				t.Errorf("%+v", st)
			}
		})
	}
}

// newGnuPGRing is a keyring of somebody else.
func newGnuPGRing(t *testing.T) string {
	g := newGnuPG(t)
	g.key("somebody", "ed25519", "never")
	return g.ring("somebody")
}

// TestImportKilled: an import that is killed in the middle leaves no feed, and nothing half.
// The next one reads what is left, also of images that their publisher summed by SHA-512 alone.
func TestImportKilled(t *testing.T) {
	t.Parallel()
	w, dir := bareWorld(t), t.TempDir()
	out, sums := filepath.Join(dir, "vmcast.xml"), ""
	at := func(i int) string { return fmt.Sprintf("/d/20240601/debian-%d.img", i) }
	for i := range 3 {
		image := noise(2<<20, byte(i))
		w.origin.PutBytes(at(i), image)
		sums += fmt.Sprintf("%x  %s\n", sha512.Sum512(image), filepath.Base(at(i)))
	}
	w.origin.PutBytes("/d/20240601/SHA512SUMS", []byte(sums))
	args := []string{"feed", "import", "--unsigned", "--index", "-o", out, w.origin.URL() + "/d/20240601/"}
	w.origin.SetBandwidth(2 << 20)
	cmd := exec.Command(binary, args...)
	must(t, cmd.Start())
	testkit.Eventually(t, "the second image is being read", time.Minute, func() bool { return w.origin.Stats(at(1)).BytesSent > 256<<10 })
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	w.origin.SetBandwidth(0)
	if _, err := os.Stat(out); err == nil || w.origin.Stats(at(2)).Requests > 0 {
		t.Fatal("it was too late to kill it")
	}
	w.origin.ResetStats()
	if text, err := w.run(args...); err != nil || !strings.Contains(text, "3 releases, 3 new, 0 gone, 2 sidecars") {
		t.Fatalf("%v\n%s", err, text)
	}
	if first, second := w.origin.Stats(at(0)).BytesSent, w.origin.Stats(at(1)).BytesSent; first > 0 || second < 2<<20 {
		t.Errorf("%d bytes were read of what was here, and %d of what was not", first, second)
	}
	var left []string
	files, _ := os.ReadDir(dir)
	for _, f := range files {
		left = append(left, f.Name())
	}
	if len(left) != 4 {
		t.Errorf("left: %q", left)
	}
	w.feed = out
	w.mount("sig=ignore", "sidecar="+dir)
	for i := range 3 {
		w.wantFile(noise(2<<20, byte(i)), fmt.Sprintf("debian-%d-20240601", i), filepath.Base(at(i)))
	}
	if text, err := w.run(args...); err != nil || !strings.Contains(text, "unchanged, 3 releases") {
		t.Errorf("%v\n%s", err, text)
	}
}
