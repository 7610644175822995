package xvm

import (
	"crypto/sha1"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
)

var judgedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// judged is a package in the making, for Judge.
type judged struct {
	t       testing.TB
	e       Evidence
	key     *Signer
	listing string
}

func newJudged(t testing.TB, key *Signer) *judged {
	return &judged{t: t, key: key, e: Evidence{Index: &Index{Version: indexVersion, Size: 1 << 30}, Small: map[string][]byte{}}}
}

// small adds a member that is read whole.
func (j *judged) small(name, content string) *judged {
	j.e.Index.Members = append(j.e.Index.Members, Member{Name: name, Size: int64(len(content)), Stored: int64(len(content))})
	j.e.Small[name] = []byte(content)
	return j
}

// large adds one that is not.
func (j *judged) large(names ...string) *judged {
	for _, name := range names {
		j.e.Index.Members = append(j.e.Index.Members, Member{Name: name, Size: 1 << 20, Stored: 1 << 20})
	}
	return j
}

// lists adds names to the manifest that manifest makes.
func (j *judged) lists(names ...string) *judged {
	for _, name := range names {
		j.listing += fmt.Sprintf("%x  %s\n", sha1.Sum([]byte(name)), name)
	}
	return j
}

func (j *judged) sign(name, signature string, by *Signer) *judged {
	j.t.Helper()
	sig, err := by.Sign(j.e.Small[name], judgedAt)
	if err != nil {
		j.t.Fatal(err)
	}
	return j.small(signature, string(sig))
}

func (j *judged) manifest() *judged {
	return j.small(ManifestName, j.listing).sign(ManifestName, ManifestSignatureName, j.key)
}

func (j *judged) described() *judged {
	return j.small("xvm.xml", "<xvm/>").sign("xvm.xml", DescriptionSignatureName, j.key)
}

func (j *judged) sidecar(by *Signer, mismatch string) *judged {
	j.t.Helper()
	j.e.Sidecar = &SidecarEvidence{Manifest: []byte("sidecar\n"), Mismatch: mismatch}
	if by != nil {
		sig, err := by.Sign(j.e.Sidecar.Manifest, judgedAt)
		if err != nil {
			j.t.Fatal(err)
		}
		j.e.Sidecar.Signature = sig
	}
	return j
}

func testSigner(t testing.TB, name string) (*Signer, *Keyring) {
	t.Helper()
	key, err := NewSigner(name, name+"@example.org", judgedAt.AddDate(-1, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := ParseKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	return key, ring
}

// TestJudge: who vouches, and for what. The files are asked for by their kind:
// "a.img" as a member, "a.img.gz>" for what it inflates to, "#" for a disk in
// chunks; "-" before one says that it is refused, "+" that the sidecar vouches.
func TestJudge(t *testing.T) {
	t.Parallel()
	key, ring := testSigner(t, "publisher")
	stranger, _ := testSigner(t, "stranger")
	pkg := func() *judged { return newJudged(t, key) }
	for name, c := range map[string]struct {
		j       *judged
		by      string
		refused string // where signatures are required
		files   string
		err     string
	}{
		"signed":                    {pkg().lists("a.img").manifest().described().large("a.img", "b.img"), ByPublisher, "", "a.img -b.img a.img> -b.img> manifest.txt mf-signature.asc xvm.xml signature.asc -#", ""},
		"no description":            {pkg().lists("a.img").manifest().large("a.img"), ByPublisher, "", "a.img -signature.asc -description.xml -xvm.xml", ""},
		"OVA":                       {pkg().small("b.mf", "SHA1(b.ovf)= "+strings.Repeat("0", 40)).sign("b.mf", ManifestSignatureName, key).small("b.ovf", "<x/>"), ByPublisher, "", "b.mf b.ovf -manifest.txt", ""},
		"large description":         {pkg().lists("a.img").manifest().large("description.xml", "a.img"), "", "description.xml is not signed by a trusted key: it is sparse, too large", "-a.img -description.xml -manifest.txt", ""},
		"large beside the signed":   {pkg().lists("a.img").manifest().described().large("description.xml"), ByPublisher, "", "xvm.xml -description.xml", ""},
		"unsigned description":      {pkg().manifestOf("a.img").small("description.xml", "<domain/>"), "", "description.xml is not signed by a trusted key: there is no signature.asc", "-description.xml", ""},
		"description taken out":     {pkg().manifestOf("a.img", "xvm.xml").large("a.img"), "", "xvm.xml is not signed by a trusted key: the manifest lists it, and the archive does not have it", "-a.img", ""},
		"description exchanged":     {pkg().manifestOf("a.img", "xvm.xml").large("a.img").small("description.xml", "<domain/>").sign("description.xml", DescriptionSignatureName, key), "", "xvm.xml is not signed by a trusted key: the manifest lists it", "-a.img -description.xml", ""},
		"description of another":    {pkg().lists("a.img", "xvm.xml").manifest().described().large("a.img"), "", "the signed manifest lists another xvm.xml", "-a.img -xvm.xml", ""},
		"signature over nothing":    {pkg().manifestOf("a.img").small(DescriptionSignatureName, "x"), ByPublisher, "", "-signature.asc", ""},
		"large signature":           {pkg().lists("a.img").small(ManifestName, "").large(ManifestSignatureName), "", "", "", "no digest"},
		"no signature":              {pkg().small(ManifestName, strings.Repeat("0", 40)+"  a.img\n").large("a.img"), "", "there is no mf-signature.asc", "-a.img", ""},
		"by a stranger":             {newJudged(t, stranger).lists("a.img").manifest().large("a.img"), "", "not in the keyring", "-a.img", ""},
		"no manifest":               {pkg().large("a.img"), "", "there is nothing to sign", "-a.img", ""},
		"large manifest":            {pkg().large(ManifestName, "a.img"), "", "", "", "too large"},
		"nothing in it":             {pkg(), "", "", "", "no usable file"},
		"for another release":       {pkg().of("one", "two").large("a.img"), ByPublisher, `made for the release "one"`, "-a.img", ""},
		"for this release":          {pkg().of("one", "one").large("a.img"), ByPublisher, "", "a.img", ""},
		"for itself":                {pkg().of("one", "").large("a.img"), ByPublisher, "", "a.img", ""},
		"notes":                     {pkg().manifestOf("a.img").large("notes.html"), ByPublisher, "", "-notes.html", ""},
		"bare":                      {pkg().large("a.img"), "", "the manifest is not signed", "-a.img -a.img>", ""},
		"sidecar":                   {pkg().large("a.img.gz").sidecar(key, ""), BySidecar, "", "+a.img.gz +a.img.gz> +#", ""},
		"sidecar of a stranger":     {pkg().large("a.img").sidecar(stranger, ""), "", "the manifest is not signed", "-a.img", ""},
		"sidecar not signed":        {pkg().large("a.img").sidecar(nil, ""), "", "the manifest is not signed", "-a.img", ""},
		"sidecar of another":        {pkg().large("a.img").sidecar(key, "another"), "", "the manifest is not signed", "-a.img", ""},
		"sidecar beside":            {pkg().manifestOf("a.img").large("a.img", "b.img").sidecar(key, ""), ByPublisher, "", "a.img +b.img manifest.txt", ""},
		"sidecar, own list":         {pkg().manifestOf("a.img", BlockListName).large("a.img", BlockListName, "b.img").sidecar(key, ""), ByPublisher, "", "a.img blocks.txt -b.img", ""},
		"sidecar, list of nobody's": {pkg().large("a.img", BlockListName).sidecar(key, ""), BySidecar, "", "+a.img +blocks.txt", ""},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := Judge(c.j.e, Policy{Keyring: ring, Required: true}, judgedAt)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if err != nil {
				if v.Refused != err.Error() || v.Member("a.img").Refused == "" {
					t.Errorf("%+v", v)
				}
				return
			}
			if v.By != c.by || (v.Refused == "") != (c.refused == "") || !strings.Contains(v.Refused, c.refused) {
				t.Errorf("by %q, want %q; refused: %q, want %q", v.By, c.by, v.Refused, c.refused)
			}
			for ask := range strings.FieldsSeq(c.files) {
				s := v.standingOf(strings.TrimLeft(ask, "+-"))
				if (s.Refused != "") != (ask[0] == '-') || (s.By == BySidecar) != (ask[0] == '+') || s.Refused == "" && s.Signer == "" {
					t.Errorf("%s: %+v", ask, s)
				}
			}
			if again, _ := Judge(c.j.e, Policy{Keyring: ring, Required: true}, judgedAt); !reflect.DeepEqual(v, again) { // none has chunks
				t.Error("another verdict on the same")
			}

			// Where nothing is required nothing is refused, and nobody's word is
			// made up.
			v, _ = Judge(c.j.e, Policy{Keyring: ring}, judgedAt)
			for ask := range strings.FieldsSeq(c.files) {
				if s := v.standingOf(strings.TrimLeft(ask, "+-")); s.Refused != "" || (s.By == "") != (s.Signer == "") {
					t.Errorf("not required: %s: %+v", ask, s)
				}
			}
			if v, _ = Judge(c.j.e, Policy{}, judgedAt); v.By != "" || v.Refused != "" || v.Signer() != "" {
				t.Errorf("without keys: %+v", v)
			}
		})
	}
}

// standingOf asks in the notation of TestJudge.
func (v *Verdict) standingOf(ask string) Standing {
	if ask == "#" {
		return v.Chunked()
	}
	if member, inflated := strings.CutSuffix(ask, ">"); inflated {
		return v.Inflated(member)
	}
	return v.Member(ask)
}

// manifestOf is a signed manifest of these names.
func (j *judged) manifestOf(names ...string) *judged { return j.lists(names...).manifest() }

// of is a package whose manifest is for one release, offered as another.
func (j *judged) of(id, as string) *judged {
	j.listing = "# vmcast-release: " + id + "\n"
	j.e.Release = as
	return j.manifestOf("a.img")
}

// TestNotListed keeps the sentence that users search for.
func TestNotListed(t *testing.T) {
	t.Parallel()
	key, ring := testSigner(t, "publisher")
	v, err := Judge(newJudged(t, key).manifestOf("a.img").large("a.img.gz").e, Policy{Keyring: ring, Required: true}, judgedAt)
	if err != nil {
		t.Fatal(err)
	}
	const why = "the signed manifest does not list it"
	if got := v.Member("a.img.gz").Refused; got != why {
		t.Error(got)
	}
	if got := v.Inflated("a.img.gz").Refused; got != "it is inflated from a.img.gz: "+why {
		t.Error(got)
	}
}
