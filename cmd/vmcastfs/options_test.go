package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		list string
		ok   func(o options) bool
		err  string
	}{
		{"", func(o options) bool { return o.Net.Hard }, ""},
		{"ro,_netdev,nofail,defaults,x-systemd.automount,x-anything=1,X-mount.mkdir,noatime,user", func(o options) bool { return true }, ""},
		{"rw,cache_size=10G", func(o options) bool { return o.CacheSize == 10<<30 }, ""},
		{"cache-size=1.5GiB,memory=0", func(o options) bool { return o.CacheSize == 3<<29 && o.Memory == 0 }, ""},
		{"bwlimit=1000", func(o options) bool { return o.Net.Bandwidth == 1000 }, ""},
		{"soft,timeo=5", func(o options) bool { return !o.Net.Hard && o.Net.Timeo == 5*time.Second }, ""},
		{"retry=0", func(o options) bool { return o.Feed.Retry == 0 }, ""},
		{"retry=90", func(o options) bool { return o.Feed.Retry == 90*time.Second }, ""},
		{"soft,hard,timeo=2m", func(o options) bool { return o.Net.Hard && o.Net.Timeo == 2*time.Minute }, ""},
		{`cache=/a\,b,verify=strict`, func(o options) bool { return o.Cache == "/a,b" && o.Feed.Strict }, ""},
		{`context="system_u:object_r:x_t:s0:c1,c2",cache="/a,b",verify=strict`, func(o options) bool { return o.Cache == "/a,b" && o.Feed.Strict }, ""},
		{`cache=/a\"b`, func(o options) bool { return o.Cache == `/a"b` }, ""},
		{"umask=027", func(o options) bool { return o.Umask == 0o227 }, ""},
		{"profile=off,complete=off", func(o options) bool { return !o.Feed.Profile && !o.Feed.Complete }, ""},
		{"nonsense", nil, `unknown option "nonsense"`},
		{"verify=maybe", nil, "must be lazy or strict"},
		{"cache", nil, "needs a value"},
		{"cache=", nil, "needs a value"},
		{"netrc=,soft", nil, "needs a value"},
		{"soft=1", nil, "takes no value"},
		{"max_conns=0", nil, "from 1 to 64"},
		{"cache_size=lots", nil, "must be a size"},
		{"refresh=0", nil, "at least 1s"},
		{"timeo=-1s", nil, "must be a duration"},
		{"umask=9", nil, "octal"},
		{"uid=root", nil, "must be a number"},
	} {
		o := defaultOptions()
		err := o.parse(c.list, false)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%q: error %v, want %q", c.list, err, c.err)
		case c.err == "" && (err != nil || !c.ok(o)):
			t.Errorf("%q: %v, %+v", c.list, err, o)
		}
	}
	o := defaultOptions()
	if err := o.parse("nonsense,also=this", true); err != nil {
		t.Errorf("sloppy: %v", err)
	}
}

func TestCheckOptions(t *testing.T) {
	for _, c := range []struct {
		change func(o *options)
		sig    string
		err    string
	}{
		{func(o *options) {}, "ignore", ""},
		{func(o *options) { o.Keyring = "/keys" }, "require", ""},
		{func(o *options) { o.Keyring, o.Sig = "/keys", "ignore" }, "ignore", ""},
		{func(o *options) { o.Sig = "require" }, "", "needs trusted keys"},
		{func(o *options) { o.Net.Cert = "/c" }, "", "go together"},
		{func(o *options) { o.Cache = "" }, "", "cache=DIR"},
	} {
		o := defaultOptions()
		o.Keyring, o.Cache = "", "/c"
		c.change(&o)
		err := o.check()
		if c.err == "" && (err != nil || o.Sig != c.sig) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%+v: sig %q, %v", c, o.Sig, err)
		}
	}
}

func TestAbsoluteOptionsSurvive(t *testing.T) {
	list := absoluteOptions(`cache=a\,b,soft,state=s\\t,netrc=a\"b,proxy=http://h/x\,y`)
	p := defaultOptions()
	if err := p.parse(list, false); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(p.Cache, "/") || !strings.HasSuffix(p.Cache, "/a,b") || !strings.HasSuffix(p.State, `/s\t`) || !strings.HasSuffix(p.Net.Netrc, `/a"b`) || p.Net.Proxy != "http://h/x,y" || p.Net.Hard {
		t.Errorf("%s gives %+v", list, p)
	}
}

func TestHelperArgs(t *testing.T) {
	for _, c := range []struct {
		args string
		want helperCall
		err  string
	}{
		{"F D", helperCall{feed: "F", dir: "D"}, ""},
		{"F D -o a,b", helperCall{feed: "F", dir: "D", options: "a,b"}, ""},
		{"-o a F D -o b", helperCall{feed: "F", dir: "D", options: "a,b"}, ""},
		{"F D -sfnv -oa", helperCall{feed: "F", dir: "D", options: "a", sloppy: true, fake: true, verbose: true}, ""},
		{"F D -t vmcastfs.x -N /ns -rw", helperCall{feed: "F", dir: "D"}, ""},
		{"F", helperCall{}, "usage"},
		{"F D E", helperCall{}, "usage"},
		{"F D -o", helperCall{}, "needs a value"},
		{"F D -z", helperCall{}, "unknown option -z"},
	} {
		got, err := parseHelperArgs(strings.Fields(c.args))
		if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) || c.err == "" && (err != nil || got != c.want) {
			t.Errorf("%q: %+v, %v", c.args, got, err)
		}
	}
}

func TestFeedArgument(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a %20.xml")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for arg, want := range map[string]string{ // what is wrong has no slash in front
		"http://h/a%20b?c#d": "http://h/a%20b?c#d", "HTTPS://h": "HTTPS://h",
		file: file, "a %20.xml": file, "./x/../a %20.xml": file,
		"file://" + dir + "/a%20%2520.xml": file, "file://localhost" + dir + "/a%20%2520.xml": file,
		"": "empty", "none.xml": "no such file", "file:a%20%2520.xml": "names no local file", "file://other" + file: "names no local file", "file://": "names no local file",
		"ftp://h/x": "cannot fetch", "http://": "names no server", "http:/h/x": "names no server",
		"http://h/%zz": "invalid URL escape", "http://u:secret@h/%zz": "invalid URL escape", "http://u:secret@h/": "password", "http://[::1": "missing ']'",
	} {
		got, err := feedArgument(arg)
		if err != nil && strings.Contains(want, "/") || err == nil && got != want || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")) {
			t.Errorf("%q: %q, %v; want %s", arg, got, err, want)
		}
	}
}

// TestCommandsTakeNothingFromMounts: list and verify, which are not told how large
// the cache of a mount may be, do not cut it down to the default.
func TestCommandsTakeNothingFromMounts(t *testing.T) {
	for list, want := range map[string]int64{"cache=/x": 0, "cache=/x,cache_size=5G": 5 << 30} {
		if o, err := softOptions(list); err != nil || o.CacheSize != want {
			t.Errorf("%q: limit %d, %v", list, o.CacheSize, err)
		}
	}
}
