package bases

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"vmcastfs/cache/privdir"
)

// golden is a record as the first version wrote it.
const golden = `{"version":1,"name":"web1","feed":"https://example.org/vmcast.xml","guid":"urn:x:1","release":"debian-12.5","generation":2,
 "mount":"/srv/vmcast","engine":"libvirt","disk":"qcow2","images":[{"file":"root.img","format":"raw","size":1073741824,
 "digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
 "keys":["e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"],"disk":"root.qcow2"}],
 "memory_mib":512,"cpus":2,"network":"br0","kernel":"/boot/vmlinuz","initrd":"/boot/initrd","append":"ro","created":"2026-03-01T12:00:00Z"}`

func example(t testing.TB) *Record {
	t.Helper()
	r, err := Parse([]byte(golden))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestRecordForm: what the first version wrote is read, and written the same.
func TestRecordForm(t *testing.T) {
	r := example(t)
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var was, is map[string]any
	if err := errors.Join(json.Unmarshal([]byte(golden), &was), json.Unmarshal(raw, &is)); err != nil || !reflect.DeepEqual(was, is) {
		t.Errorf("%v\n%s", err, raw)
	}
}

// TestL9Refused: each of these makes a record that nothing is used of.
func TestL9Refused(t *testing.T) {
	for _, c := range [][2]string{
		{`"version":1`, `"version":2`}, {`"version":1`, `"version":0`}, {`"version":1`, `"version":"1"`},
		{`"name":"web1"`, `"name":"../web1"`}, {`"name":"web1"`, `"name":"7"`}, {`"name":"web1"`, `"name":"-x"`}, {`"name":"web1"`, `"name":".x"`}, {`"name":"web1"`, `"name":"a b"`},
		{`"release":"debian-12.5"`, `"release":"../../etc"`}, {`"release":"debian-12.5"`, `"release":".."`}, {`"release":"debian-12.5"`, `"release":"a\nb"`},
		{`"file":"root.img"`, `"file":"/etc/shadow"`}, {`"file":"root.img"`, `"file":"a/../../b"`}, {`"file":"root.img"`, `"file":""`},
		{`"disk":"root.qcow2"`, `"disk":"../root.qcow2"`}, {`"disk":"root.qcow2"`, `"disk":"machine.json"`}, {`"disk":"root.qcow2"`, `"disk":".tmp-x"`},
		{`"engine":"libvirt"`, `"engine":"/tmp/evil"`}, {`"disk":"qcow2"`, `"disk":"vmdk"`}, {`"format":"raw"`, `"format":"raw,file=/etc/shadow"`},
		{`"mount":"/srv/vmcast"`, `"mount":"srv"`}, {`"mount":"/srv/vmcast"`, `"mount":"/srv/../etc"`}, {`"kernel":"/boot/vmlinuz"`, `"kernel":"boot"`},
		{`sha256:e3`, `sha256:zz`}, {`["e3b0`, `["/3b0`}, {`"size":1073741824`, `"size":-1`}, {`"cpus":2`, `"cpus":-2`},
		{`"guid":"urn:x:1"`, `"guid":""`}, {`"append":"ro"`, `"append":"a\u0000b"`}, {`"append":"ro"`, `"append":"` + strings.Repeat("x", 5000) + `"`},
		{`"images":[`, `"images":[],"more":[`}, {`00:00Z"}`, `00:00Z"} {}`}, {`{"version"`, `[{"version"`},
		{`"version":1`, `"pad":"` + strings.Repeat("x", maxRecord) + `","version":1`},
	} {
		bad := strings.Replace(golden, c[0], c[1], 1)
		if bad == golden {
			t.Fatalf("%q is not in the record", c[0])
		}
		if r, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%.80s is accepted: %+v", c[1], r)
		}
	}
}

// TestL9Records: records are written and listed; what is planted is told and not used.
func TestL9Records(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "vms")
	if records, faults := List(path); records != nil || faults != nil {
		t.Fatal(records, faults)
	}
	d, err := Open(path, true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // only read
	for _, name := range []string{"web1", "web2", "planted", "other"} {
		m, err := Make(d.Dir, name)
		if err != nil {
			t.Fatal(err)
		}
		r := example(t)
		if r.Name = name; name == "other" {
			r.Name = "web1"
		}
		if err := errors.Join(Write(m, r), m.Close()); err != nil {
			t.Fatal(err)
		}
	}
	secret := filepath.Join(path, "web1", recordName)
	planted := filepath.Join(path, "planted", recordName)
	if err := errors.Join(os.Remove(planted), os.Symlink(secret, planted), os.Symlink(filepath.Join(path, "web1"), filepath.Join(path, "link")),
		os.Mkdir(filepath.Join(path, "empty"), 0o700), os.Mkdir(filepath.Join(path, privdir.TempPrefix+"x"), 0o700)); err != nil {
		t.Fatal(err)
	}
	records, faults := List(path)
	if len(records) != 2 || records[0].Name != "web1" || records[1].Name != "web2" {
		t.Errorf("%v", records)
	}
	if told := errors.Join(faults...); len(faults) != 4 {
		t.Errorf("%v", told)
	} else {
		for _, name := range []string{"planted", "link", "empty", "other"} {
			if !strings.Contains(told.Error(), "machine "+name) {
				t.Errorf("%s is not told of: %v", name, told)
			}
		}
	}
	// A hypervisor that is another user may pass through, and not look.
	for _, dir := range []string{path, filepath.Join(path, "web1")} {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o711 {
			t.Error(dir, info.Mode(), err)
		}
	}
	if info, err := os.Stat(secret); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info.Mode(), err)
	}
	if err := Write(d.Dir, &Record{Version: 1, Name: "x"}); err == nil {
		t.Error("a record that nobody could read is written")
	}
}

// TestL9Directory: the directory is this user's, no link, and for nothing else.
func TestL9Directory(t *testing.T) {
	top := t.TempDir()
	for _, name := range []string{"etc", "foreign"} {
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(filepath.Join(top, "etc", "passwd"), nil, 0o600), os.Symlink(filepath.Join(top, "foreign"), filepath.Join(top, "link"))); err != nil {
		t.Fatal(err)
	}
	bad := []string{"", "etc", "link"}
	if os.Geteuid() == 0 {
		bad = append(bad, "foreign")
		if err := os.Chown(filepath.Join(top, "foreign"), 12345, 12345); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range bad {
		path := name
		if name != "" {
			path = filepath.Join(top, name)
		}
		if d, err := Open(path, true); err == nil {
			d.Close()
			t.Errorf("%q is accepted", name)
		}
		if _, faults := List(path); len(faults) != 1 || errors.Is(faults[0], fs.ErrNotExist) {
			t.Errorf("%q: %v", name, faults)
		}
	}
}

// TestLock: one at a time, and a wait ends with its context.
func TestLock(t *testing.T) {
	d, err := Open(filepath.Join(t.TempDir(), "vms"), true)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close() //nolint:errcheck // only read
	unlock, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := d.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	unlock()
	again, err := d.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(golden))
	f.Add([]byte(`{"version":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := Parse(raw)
		if err != nil {
			return
		}
		out, err := json.Marshal(r)
		if err != nil {
			t.Skip() // a time that JSON cannot write
		}
		if len(out) > maxRecord {
			t.Skip() // what was escaped takes more room
		}
		again, err := Parse(out)
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v\n%+v\n%+v", err, r, again)
		}
	})
}
