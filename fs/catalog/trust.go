package catalog

import (
	"fmt"
	"time"

	"vmcastfs/cache/store"
	"vmcastfs/fs/catalog/archive"
	"vmcastfs/xvm"
)

// Trust says who vouches for a package, and what the policy makes of it.
type Trust struct {
	Manifest    Signature `json:"manifest"`          // over the manifest
	Description Signature `json:"description"`       // over xvm.xml or description.xml
	By          string    `json:"by,omitempty"`      // whose signature vouches for the package: "publisher", "sidecar", or nobody's
	Refused     string    `json:"refused,omitempty"` // why nothing of the release is served; "": it is
}

// Signature is what is known of one detached signature.
type Signature struct {
	State  string    `json:"state"` // "good", "bad", "missing", or "unchecked" without a keyring
	Signer string    `json:"signer,omitempty"`
	KeyID  string    `json:"key,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// Trust.By.
const (
	byPublisher = "publisher"
	bySidecar   = "sidecar"
)

// judge checks the package's signatures against the keyring.
func (c *Catalog) judge(p *Package) Trust {
	var t Trust
	manifest := manifestName(p.doc.Index)
	description := p.description()
	t.Manifest = c.checkSignature(p, manifest, xvm.ManifestSignatureName)
	t.Description = c.checkSignature(p, description, xvm.DescriptionSignatureName)
	described := description != ""
	if t.Manifest.State == "good" && (!described || t.Description.State == "good") {
		t.By = byPublisher
	}
	switch {
	case !c.cfg.RequireSigned:
	case t.Manifest.State != "good":
		t.Refused = fmt.Sprintf("the manifest is not signed by a trusted key: %s", t.Manifest.Reason)
	case described && t.Description.State != "good":
		t.Refused = fmt.Sprintf("%s is not signed by a trusted key: %s", description, t.Description.Reason)
	}
	return t
}

// sidecarVouches tells whether a trusted key signed the sidecar that is used.
// Who made it has read the package whole and says of each file what it is; the
// small ones have been compared with it, images are block by block.
func (p *Package) sidecarVouches() bool { return p.sidecar != nil && p.sidecar.State == "good" }

// vouchBySidecar: where the publisher's signature is missing or no good, that of
// a sidecar takes its place.
func (p *Package) vouchBySidecar() {
	if p.sidecarVouches() && p.trust.By == "" {
		p.trust.By, p.trust.Refused = bySidecar, ""
	}
}

// uncovered says that the sidecar, which alone vouches for an image, has no
// blocks of it, or "". The image must be open.
func (im *image) uncovered() string {
	p := im.f.pkg
	switch {
	case !p.cat.cfg.RequireSigned, p.trust.By == byPublisher && im.f.unsigned() == "", im.mode.Load() == blockMode,
		im.base != nil && im.base.mode.Load() == blockMode:
		return ""
	}
	return "the sidecar, which alone vouches for it, has no blocks of it"
}

// description is the member that describes the machine; "": there is none. One
// that is too large to be read, or sparse, is the description all the same: then
// no signature over it can be checked.
func (p *Package) description() string { return p.doc.Index.Description() }

func (c *Catalog) checkSignature(p *Package, name, signature string) Signature {
	signed, ok := p.doc.Meta[name]
	sig, has := p.doc.Meta[signature]
	switch {
	case name == "":
		return Signature{State: "missing", Reason: "there is nothing to sign"}
	case !ok:
		return Signature{State: "missing", Reason: "it is sparse, too large or incomplete, so that no signature over it can be checked"}
	case !has:
		return Signature{State: "missing", Reason: "there is no " + signature}
	case c.cfg.Keyring == nil:
		return Signature{State: "unchecked", Reason: "no keyring is given"}
	}
	v, err := c.cfg.Keyring.Verify(signed, sig, time.Now())
	if err != nil {
		return Signature{State: "bad", Reason: err.Error()}
	}
	return Signature{State: "good", Signer: v.Signer, KeyID: v.KeyID, Time: v.Time}
}

// refused says why the trust policy keeps this file from being opened.
func (f *File) refused() error {
	if why := f.pkg.refusal(); why != "" {
		return fmt.Errorf("%s: %w: %s", f.pkg.release.Name(), archive.ErrRefused, why)
	}
	if why := f.unvouched(); why != "" {
		return fmt.Errorf("%s/%s: %w: %s", f.pkg.release.Name(), f.name, archive.ErrRefused, why)
	}
	return nil
}

// unvouched says why a file is not served where signatures are required: nobody
// who signed vouches for it. "": somebody does, or they are not required.
func (f *File) unvouched() string {
	if !f.pkg.cat.cfg.RequireSigned || f.pkg.sidecarVouches() {
		return "" // but for images that the sidecar has no blocks of: see uncovered
	}
	return f.unsigned()
}

// unsigned says why the publisher's signatures do not vouch for the bytes of the
// file, or "". A name proves nothing: what the manifest lists are members as they
// are stored, so what is made of members is as good as they are.
func (f *File) unsigned() string {
	switch {
	case f.fromFeed: // no content of the package
		return ""
	case f.joined != nil:
		return f.joined.unsigned()
	case f.signed():
		return ""
	case f.image != nil && f.image.base != nil:
		if why := f.image.base.f.unsigned(); why != "" {
			return fmt.Sprintf("it is inflated from %s: %s", f.image.base.f.name, why)
		}
		return ""
	case !f.member:
		return "it is put together from chunks of the archive, which no manifest lists"
	}
	return f.pkg.manifest.Unvouched(f.name)
}

// signed tells whether the file is what a good signature was checked over, or
// holds that signature.
func (f *File) signed() bool {
	if f.content == nil || !f.member {
		return false
	}
	switch f.name {
	case manifestName(f.pkg.doc.Index), xvm.ManifestSignatureName:
		return f.pkg.trust.Manifest.State == "good"
	case f.pkg.description(), xvm.DescriptionSignatureName:
		return f.pkg.trust.Description.State == "good"
	}
	return false
}

// signer is who vouches for the package, as far as that was checked.
func (p *Package) signer() string {
	switch {
	case p.trust.By == bySidecar:
		return p.sidecar.Signer
	case p.trust.Manifest.State == "good":
		return p.trust.Manifest.Signer
	}
	return ""
}

// signer is who vouches for the file.
func (f *File) signer() string {
	if f.pkg.sidecarVouches() && f.unsigned() != "" {
		return f.pkg.sidecar.Signer
	}
	return f.pkg.signer()
}

// markSigned tells of the signed files themselves what their signature proves.
func (p *Package) markSigned() {
	manifest := manifestName(p.doc.Index)
	for name, sig := range map[string]Signature{manifest: p.trust.Manifest, p.description(): p.trust.Description} {
		if f := p.byName[name]; f != nil && sig.State == "good" && f.state == store.Unverified {
			f.state, f.note = store.Verified, "signed by "+sig.Signer
		}
	}
	if !p.sidecarVouches() {
		return
	}
	for name := range p.doc.Meta {
		if f := p.byName[name]; f != nil && f.image == nil && f.state == store.Unverified {
			f.state, f.note = store.Verified, "its SHA-256 is in the sidecar signed by "+p.sidecar.Signer
		}
	}
}
