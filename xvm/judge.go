package xvm

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Evidence is what a package shows of itself, and what its sidecar says of it.
type Evidence struct {
	Index *Index
	// Small is the content of the members that were read whole, by name. It must
	// have those of Index.small whose bytes are in the archive.
	Small   map[string][]byte
	Release string           // id of the release that a feed offers the package as; "": it stands for itself
	Sidecar *SidecarEvidence // nil: there is none
}

// SidecarEvidence is what the trust in a sidecar depends on.
type SidecarEvidence struct {
	Manifest  []byte // what is signed
	Signature []byte // over Manifest; nil: there is none
	Mismatch  string // why it is not a sidecar of this package; "": it is, see [Sidecar.Compare]
}

// Policy is what is asked of packages.
type Policy struct {
	Keyring  *Keyring // the trusted keys; nil: signatures are not checked
	Required bool     // what no trusted key vouches for is refused
}

// Judge decides who vouches for a package. It is the one place where that is
// decided, for the mount and for every command, and depends on nothing but what
// it is given.
//
// With an error ([ErrNotPackage], [ErrManifest]) the package cannot be used,
// signed or not. The verdict is valid all the same, and refuses all of it.
func Judge(e Evidence, p Policy, now time.Time) (*Verdict, error) {
	v := &Verdict{policy: p, evidence: e}
	err := v.readManifest()
	if err == nil {
		err = v.findDisks()
	}
	manifest, description := e.Index.ManifestName(), v.DescribedBy()
	v.Manifest = v.signature(manifest, ManifestSignatureName, now)
	v.Description = v.signature(description, DescriptionSignatureName, now)
	if why := v.contradiction(description); why != "" && v.Manifest.State == Good && v.Description.State == Good {
		// A description that the same key signed for another package.
		v.Description = Signature{State: Bad, KeyID: v.Description.KeyID, Reason: "the signed manifest lists another " + description + ": " + why}
	}
	described := description != ""
	if v.Manifest.State == Good && (!described || v.Description.State == Good) {
		v.By = ByPublisher
	}
	v.judgeSidecar(now)
	v.stands = spanAt(now, v.moments)
	switch {
	case err != nil:
		v.Refused = err.Error()
	case !p.Required:
	case v.By == "" && v.Manifest.State != Good:
		v.Refused = "the manifest is not signed by a trusted key: " + v.Manifest.Reason
	case v.By == "":
		v.Refused = description + " is not signed by a trusted key: " + v.Description.Reason
	default:
		v.Refused = v.Misplaced
	}
	return v, err
}

// DescribedBy is the name of the member that describes the machine; "": there is
// none. What the manifest lists goes before what is there: else another machine
// would be made than the publisher signed. An OVA is described by another member.
func (v *Verdict) DescribedBy() string {
	for _, known := range []func(string) bool{v.lists, v.evidence.Index.has} {
		for _, name := range descriptionNames {
			if known(name) {
				return name
			}
		}
	}
	return ""
}

func (v *Verdict) lists(name string) bool { return v.Sums != nil && v.Sums.Lists(name) }

// readManifest parses the manifest, if there is one.
func (v *Verdict) readManifest() error {
	e := v.evidence
	if len(e.Index.Members) == 0 {
		why := ""
		if h := e.Index.Hidden; len(h) > 0 {
			why = fmt.Sprintf("; of %d entries the first is %q: %s", len(h), h[0].Name, h[0].Reason)
		}
		return fmt.Errorf("%w: the archive holds no usable file%s", ErrNotPackage, why)
	}
	name := e.Index.ManifestName()
	if name == "" {
		return nil
	}
	content, ok := e.Small[name]
	if !ok {
		return fmt.Errorf("%w: its manifest %q is too large, sparse or incomplete", ErrNotPackage, name)
	}
	sum := sha256.Sum256(content)
	v.ManifestSum = hex.EncodeToString(sum[:])
	m, err := ParseManifest(name, content)
	if err != nil {
		return err
	}
	v.Sums = m
	if id := m.Release(); id != "" && e.Release != "" && id != e.Release {
		v.Misplaced = fmt.Sprintf("its manifest was made for the release %q, not for this one: tell the publisher, who can pack it with --guid %q", id, e.Release)
	}
	return nil
}

// findDisks looks for the disks of an XVA archive.
func (v *Verdict) findDisks() (err error) {
	if v.Disks, v.chunk, err = XVADisks(v.evidence.Index, v.evidence.Small[XVAName]); err != nil {
		return fmt.Errorf("%w: %w", ErrNotPackage, err)
	}
	return nil
}

// contradiction says in what a member that was read whole is not as the manifest
// has it, or "".
func (v *Verdict) contradiction(name string) string {
	content, ok := v.evidence.Small[name]
	if !ok || v.Sums == nil {
		return ""
	}
	_, why := v.Sums.Compare(name, content)
	return why
}

// signature checks the signature over a member.
func (v *Verdict) signature(name, signature string, now time.Time) Signature {
	signed, ok := v.evidence.Small[name]
	sig, has := v.evidence.Small[signature]
	switch {
	case name == "":
		return Signature{State: Missing, Reason: "there is nothing to sign"}
	case !v.evidence.Index.has(name):
		return Signature{State: Missing, Reason: "the manifest lists it, and the archive does not have it"}
	case !ok:
		return Signature{State: Missing, Reason: "it is sparse, too large or incomplete, so that no signature over it can be checked"}
	case !has:
		return Signature{State: Missing, Reason: "there is no " + signature}
	}
	return v.check(signed, sig, now)
}

func (v *Verdict) check(signed, signature []byte, now time.Time) Signature {
	k := v.policy.Keyring
	if k == nil {
		return Signature{State: Unchecked, Reason: "no keyring is given"}
	}
	moments := k.moments(signature)
	v.moments = append(v.moments, moments...)
	good, err := k.Verify(signed, signature, now)
	if err != nil {
		return Signature{State: Bad, Reason: err.Error()}
	}
	return Signature{
		State: Good, Signer: good.Signer, KeyID: good.KeyID, Time: good.Time,
		Expires: k.expires(signed, signature, now, moments), Others: strings.Join(good.Others, "; "),
	}
}

// judgeSidecar decides whether the sidecar is used. Without a keyring the word of
// the operator, who named it, is enough. A package with a block list of its own
// needs none but to vouch for it.
func (v *Verdict) judgeSidecar(now time.Time) {
	sc := v.evidence.Sidecar
	if sc == nil {
		return
	}
	var sig Signature
	switch {
	case sc.Signature != nil:
		sig = v.check(sc.Manifest, sc.Signature, now)
	case v.policy.Keyring == nil:
		sig = Signature{State: Unchecked, Reason: "no keyring is given"}
	default:
		sig = Signature{State: Missing, Reason: "it is not signed"}
	}
	v.Sidecar = &sig
	own := v.evidence.Index.has(BlockListName)
	switch {
	case own && v.By == ByPublisher:
		v.SidecarUnused = "the package has a block list of its own, which is as good"
	case own && sig.State != Good:
		v.SidecarUnused = sig.Reason + ", and the package has a block list of its own"
	case sc.Mismatch != "":
		v.SidecarUnused = sc.Mismatch
	case sig.State == Bad, sig.State == Missing && v.policy.Required:
		v.SidecarUnused = sig.Reason
	case sig.State == Good && v.By == "":
		v.By = BySidecar
	}
}
