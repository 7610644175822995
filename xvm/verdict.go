package xvm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"vmcastfs/xvm/sums"
)

// Signature is what is known of one detached signature. Its JSON form is a
// contract: fields are added, not renamed.
type Signature struct {
	State  string    `json:"state"` // Good, Bad, Missing or Unchecked
	Signer string    `json:"signer,omitempty"`
	KeyID  string    `json:"key,omitempty"`
	Time   time.Time `json:"time,omitzero"`
	// Expires is when a Good one stops to count, as its key or itself expires;
	// zero: it is not known to.
	Expires time.Time `json:"expires,omitzero"`
	Reason  string    `json:"reason,omitempty"` // why it is not Good
	Others  string    `json:"others,omitempty"` // why signatures beside a Good one do not count
}

// States of a [Signature].
const (
	Good      = "good"      // by a trusted key
	Bad       = "bad"       // there is one, which does not count
	Missing   = "missing"   // there is none, or nothing that it could be over
	Unchecked = "unchecked" // there is no keyring
)

// Who vouches for a package or a file; "" is nobody.
const (
	ByPublisher = "publisher"
	BySidecar   = "sidecar"
)

// Verdict says who vouches for a package, and for which of its files. It is
// immutable. Its JSON form is a contract: fields are added, not renamed.
type Verdict struct {
	Manifest    Signature `json:"manifest"`          // over the manifest
	Description Signature `json:"description"`       // over xvm.xml or description.xml
	By          string    `json:"by,omitempty"`      // who vouches for the package: ByPublisher, BySidecar or ""
	Refused     string    `json:"refused,omitempty"` // why nothing of the package is served; "": it is

	// Misplaced says that the manifest names another release than that which it
	// is offered as. Where signatures are required, Refused says so too.
	Misplaced string `json:"-"`
	// Sidecar is what is known of the sidecar's signature; nil: there is none, or
	// it is not needed.
	Sidecar *Signature `json:"-"`
	// SidecarUnused says why a sidecar that is there is not used; "": it is.
	SidecarUnused string `json:"-"`

	Sums        *Manifest `json:"-"` // the manifest; nil: there is none, or none that can be used
	ManifestSum string    `json:"-"` // SHA-256 of the manifest in hexadecimal; "": there is none

	// Disks are those that an XVA archive has in chunks.
	Disks []XVADisk `json:"-"`

	chunk    func(name string) bool // of a disk, or its checksum
	policy   Policy
	evidence Evidence
	moments  []time.Time // at which a signature begins or stops to count
	stands   span
}

// Stands tells whether Judge would say the same at another time, and with another
// policy. It may say no of a verdict that would be the same.
func (v *Verdict) Stands(p Policy, now time.Time) bool { return v.policy == p && v.stands.holds(now) }

// Expires is the first moment at which a signature stops to count that the
// package depends on, and that signature; zero: none is known to.
func (v *Verdict) Expires() (at time.Time, of Signature) {
	depends := []Signature{v.Manifest, v.Description}
	if v.SidecarTrusted() {
		depends = []Signature{*v.Sidecar}
		if v.By == ByPublisher {
			depends = append(depends, v.Manifest, v.Description)
		}
	}
	for _, s := range depends {
		if s.State == Good && !s.Expires.IsZero() && (at.IsZero() || s.Expires.Before(at)) {
			at, of = s.Expires, s
		}
	}
	return at, of
}

// expiryWarning is how long before it expires a key is warned of.
const expiryWarning = 30 * 24 * time.Hour

// ExpiresSoon says that a signature stops to count within 30 days that the package
// depends on; "": none is known to.
func (v *Verdict) ExpiresSoon(now time.Time) string {
	at, of := v.Expires()
	if at.IsZero() || at.Sub(now) > expiryWarning {
		return ""
	}
	return fmt.Sprintf("the signature by %s (key %s) counts until %s: without a key that lives longer the release is refused then, where signatures are required",
		of.Signer, of.KeyID, at.UTC().Format("2006-01-02 15:04 MST"))
}

// Refuse is the verdict that refuses all of the package, for a reason of the
// caller's.
func (v *Verdict) Refuse(why string) *Verdict {
	refused := *v
	refused.Refused = why
	return &refused
}

// SidecarTrusted tells whether a trusted key signed the sidecar that is used. Its
// maker has read the package whole and says of each file what it is; the small
// ones have been compared with it, images are block by block.
func (v *Verdict) SidecarTrusted() bool { return v.UsesSidecar() && v.Sidecar.State == Good }

// Standing says who vouches for a file.
type Standing struct {
	By      string // ByPublisher, BySidecar, or "": nobody
	Signer  string // of ByPublisher and BySidecar
	Refused string // why it is not served; "": it is. With BySidecar only blocks that the sidecar lists are.
}

// Member says who vouches for a member, as it is stored.
func (v *Verdict) Member(name string) Standing { return v.standing(v.unsigned(name)) }

// Inflated says who vouches for the plain content of a compressed member. That a
// manifest lists a file of the plain name proves nothing: nobody compares it.
func (v *Verdict) Inflated(member string) Standing {
	why := v.unsigned(member)
	if why != "" {
		why = fmt.Sprintf("it is inflated from %s: %s", member, why)
	}
	return v.standing(why)
}

// Chunked says who vouches for a disk that is put together from the chunks of an
// XVA archive.
func (v *Verdict) Chunked() Standing {
	return v.standing("it is put together from chunks of the archive, which no manifest lists")
}

// standing is that of a file that the publisher's signatures do not vouch for,
// for the reason given; "": they do.
func (v *Verdict) standing(unsigned string) Standing {
	s := Standing{}
	switch {
	case v.By != BySidecar && unsigned == "":
		s.By, s.Signer = ByPublisher, cmp.Or(v.Manifest.Signer, v.Description.Signer)
	case v.SidecarTrusted():
		s.By, s.Signer = BySidecar, v.Sidecar.Signer
	case v.policy.Required:
		s.Refused = unsigned
	}
	s.Refused = cmp.Or(v.Refused, s.Refused)
	return s
}

// unsigned says why the publisher's signatures do not vouch for a member, or "".
// Nothing is exempt by its name: a good signature was checked over the bytes of
// the member, or they are that signature, or the signed manifest lists them.
func (v *Verdict) unsigned(name string) string {
	if _, whole := v.evidence.Small[name]; whole {
		switch name {
		case v.evidence.Index.ManifestName(), ManifestSignatureName:
			if v.Manifest.State == Good {
				return ""
			}
		case v.DescribedBy(), DescriptionSignatureName:
			if v.Description.State == Good {
				return ""
			}
		}
	}
	if v.Manifest.State != Good {
		return "no trusted key signed the manifest"
	}
	return v.Sums.untrusted(name)
}

// Lists tells whether a signature over the manifest would vouch for the member,
// by whichever key. Where there is no manifest that can be asked, it might.
func (v *Verdict) Lists(member string) bool { return v.Sums == nil || v.Sums.untrusted(member) == "" }

// Signer is who vouches for the package, as far as that was checked, or "".
func (v *Verdict) Signer() string {
	if v.By == BySidecar {
		return v.Sidecar.Signer
	}
	return v.Manifest.Signer
}

// Identity tells the package from other packages of its release: the SHA-256 of
// its manifest, or else of the sidecar's manifest that vouches for it, in
// hexadecimal; "": it has neither.
func (v *Verdict) Identity() string {
	if v.ManifestSum == "" && v.By == BySidecar {
		sum := sha256.Sum256(v.evidence.Sidecar.Manifest)
		return hex.EncodeToString(sum[:])
	}
	return v.ManifestSum
}

// IsChunk tells whether a member is part of a disk in chunks, or its checksum, and
// so no file of the package.
func (v *Verdict) IsChunk(member string) bool { return len(v.Disks) > 0 && v.chunk(member) }

// WantsSidecar tells whether a sidecar could be of use: the package has no block
// list of its own, or nobody vouches for that.
func (v *Verdict) WantsSidecar() bool {
	return !v.evidence.Index.has(BlockListName) || v.By != ByPublisher && v.policy.Keyring != nil
}

// UsesSidecar tells whether images are compared with the sidecar's block list.
func (v *Verdict) UsesSidecar() bool { return v.Sidecar != nil && v.SidecarUnused == "" }

// OwnBlockList tells whether images are compared with the block list of the
// package; why says what is wrong with one that is there and not used.
func (v *Verdict) OwnBlockList() (use bool, why string) {
	i := slices.IndexFunc(v.evidence.Index.Members, func(m Member) bool { return m.Name == BlockListName })
	if i < 0 || v.UsesSidecar() {
		return false, ""
	}
	m := v.evidence.Index.Members[i]
	switch {
	case v.Sums == nil || !slices.ContainsFunc(v.Sums.Sums(m.Name), func(s sums.Sum) bool { return s.Prefix == 0 }):
		why = "no manifest lists it"
	case v.policy.Required && v.Sums.untrusted(m.Name) != "":
		why = v.Sums.untrusted(m.Name)
	case m.Size > maxBlockListSize || m.Segments != nil:
		why = "it is too large, or sparse"
	}
	return why == "", why
}
