package xvm

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// A signature counts if all of this holds:
//
//   - It is a detached OpenPGP signature, armored or binary, over a binary or text
//     document. A message that carries its own text is refused (S6). Text around the
//     armor is ignored. Of several signatures one must be good, and the faults of the
//     others are told (S7).
//   - Its digest is not MD5, SHA-1 or RIPEMD-160 (S8). In self-signatures of the
//     trusted keys SHA-1 is accepted: old keys have no other.
//   - Its key and the primary key above that are not RSA or DSA below 2048 bits, not
//     secp256k1, and not broken in other ways that go-crypto knows (S8).
//   - Its key is in the keyring. Keys that come with a package are ignored (S11).
//   - The key may sign, is bound to its primary key in both directions, and has not
//     expired now (S9). As in GnuPG the latest self-signature tells, and a key
//     without key flags may do what its algorithm can.
//   - The key was not revoked by itself, wherever in the keyring that stands. Of a key
//     that was superseded or retired, earlier signatures still count (S9). Of two
//     copies of a key the revoked one counts. Designated revokers are not heeded.
//   - The signature is not expired, not older than its key, and at most ten minutes
//     in the future (S9).
//   - It has no critical notation, as none is known.

// minKeyBits is the least size of an RSA or DSA key. GnuPG may make a key of one
// bit less than it was asked for.
const minKeyBits = 2047

// weakDigest reports whether a second file with the same digest can be made.
func weakDigest(h crypto.Hash) bool {
	return h == crypto.MD5 || h == crypto.SHA1 || h == crypto.RIPEMD160
}

// verifyOne checks one signature packet. Without a good signature the fault says why.
func (k *Keyring) verifyOne(signed, raw []byte, now time.Time) (v *GoodSignature, fault string) {
	keyID := ""
	defer func() {
		// The bytes are a stranger's and the parser is not ours: should it
		// ever panic, one signature is bad, and no guest loses its disk.
		if r := recover(); r != nil {
			v, fault = nil, "malformed signature"
		}
		if keyID != "" {
			fault = "key " + keyID + ": " + fault
		}
	}()
	p, err := packet.Read(bytes.NewReader(raw))
	sig, ok := p.(*packet.Signature)
	if err != nil || !ok {
		return nil, cleanText(fmt.Sprintf("malformed or unsupported signature: %v", err), 200)
	}
	if sig.IssuerKeyId == nil {
		return nil, "the signature does not name its key"
	}
	keyID = keyIDText(*sig.IssuerKeyId)
	if fault = checkSignature(sig, now); fault != "" {
		return nil, fault
	}
	if sig.CreationTime.After(now) { // by no more than the allowed skew
		now = sig.CreationTime
	}
	fault = "not in the keyring"
	revoked := make(map[string]string) // by fingerprint: of several copies of a key one may be newer
	for _, i := range k.byID[*sig.IssuerKeyId] {
		key := &k.keys[i]
		e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(key.packets)))
		if err != nil {
			continue // it was readable when the keyring was loaded
		}
		reason := verifyBy(e, signed, sig, now)
		switch {
		case reason == revokedKey || reason == revokedSubkey:
			revoked[key.fingerprint] = reason
		case reason == "" && v == nil:
			v = &GoodSignature{Signer: key.identity, KeyID: keyID, Fingerprint: key.fingerprint, Time: sig.CreationTime}
		}
		fault = reason
	}
	if v != nil && revoked[v.Fingerprint] != "" {
		v, fault = nil, revoked[v.Fingerprint]
	}
	return v, fault
}

// checkSignature is the part of the policy that needs no key.
func checkSignature(sig *packet.Signature, now time.Time) string {
	switch {
	case sig.SigType != packet.SigTypeBinary && sig.SigType != packet.SigTypeText:
		return fmt.Sprintf("a signature of type 0x%02x, not over a file", byte(sig.SigType))
	case weakDigest(sig.Hash):
		return fmt.Sprintf("the signature uses the broken digest %v", sig.Hash)
	case sig.CreationTime.After(now.Add(maxClockSkew)):
		return "the signature is dated in the future: " + dateText(sig.CreationTime)
	case sig.SigLifetimeSecs != nil && sig.CreationTime.Before(now) && sig.SigExpired(now):
		return "the signature expired on " + dateText(sig.CreationTime.Add(time.Duration(*sig.SigLifetimeSecs)*time.Second))
	}
	return ""
}

// verifyBy checks the signature against one key of the keyring, and returns why
// it does not count, or "".
func verifyBy(e *openpgp.Entity, signed []byte, sig *packet.Signature, now time.Time) string {
	config := &packet.Config{Time: func() time.Time { return now }}
	primary, sub := e.PrimaryKey, (*openpgp.Subkey)(nil)
	pub := primary
	if *sig.IssuerKeyId != primary.KeyId {
		for i := range e.Subkeys {
			if e.Subkeys[i].PublicKey.KeyId == *sig.IssuerKeyId {
				sub, pub = &e.Subkeys[i], e.Subkeys[i].PublicKey
			}
		}
	}
	if !sig.CheckKeyIdOrFingerprint(pub) {
		return "not in the keyring"
	}
	for _, key := range []*packet.PublicKey{primary, pub} {
		if weak := weakKey(key, config); weak != "" {
			return weak
		}
	}
	if reason := unusableKey(e, sub, sig.CreationTime, now, config); reason != "" {
		return reason
	}
	if sig.CreationTime.Before(pub.CreationTime) {
		return "the signature is older than its key"
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return cleanText(fmt.Sprintf("the signature has a critical notation %q, which is not known", n.Name), 200)
		}
	}
	h, err := sig.PrepareVerify()
	if err != nil {
		return cleanText(fmt.Sprintf("unsupported signature: %v", err), 200)
	}
	var content io.Writer = h
	if sig.SigType == packet.SigTypeText {
		content = openpgp.NewCanonicalTextHash(h)
	}
	if _, err := content.Write(signed); err != nil {
		return err.Error()
	}
	if pub.VerifySignature(h, sig) != nil {
		return "the signature does not match the file"
	}
	return ""
}

// weakKey refuses keys that are within reach of an attacker.
func weakKey(key *packet.PublicKey, config *packet.Config) string {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSASignOnly, packet.PubKeyAlgoDSA:
		if n, err := key.BitLength(); err != nil || n < minKeyBits {
			return fmt.Sprintf("the key is too weak: %d bits, at least %d are asked for", n, minKeyBits+1)
		}
	case packet.PubKeyAlgoECDSA, packet.PubKeyAlgoEdDSA:
		if curve, err := key.Curve(); err != nil || config.RejectCurve(curve) {
			return fmt.Sprintf("the key uses curve %.40q, which is not accepted", curve)
		}
	}
	return ""
}

// unusableKey tells why a key may not have signed at the time at, or "". As in
// GnuPG a key is what its owner says of it now: an owner who extends its life
// replaces the self-signature, so that none need be left as old as the
// signatures the key has made. Only a revocation looks back: a key that was
// compromised, or revoked without a reason, never signed anything; one that was
// superseded or retired signed whatever it did before.
func unusableKey(e *openpgp.Entity, sub *openpgp.Subkey, at, now time.Time, config *packet.Config) string {
	if e.Revoked(at) {
		return revokedKey
	}
	self, err := e.PrimarySelfSignature(now, config)
	if err != nil {
		return "the key has no valid self-signature"
	}
	expired := e.PrimaryKey.KeyExpired(self, now)
	if direct, err := e.LatestValidDirectSignature(now, config); err == nil {
		expired = expired || e.PrimaryKey.KeyExpired(direct, now)
	}
	if expired {
		return "the key has expired"
	}
	if sub != nil {
		if self, err = sub.LatestValidBindingSignature(now, config); err != nil {
			return "the subkey is not validly bound to its primary key"
		}
		if sub.Revoked(self, at) {
			return revokedSubkey
		}
		if sub.Expired(self, now) {
			return "the subkey has expired"
		}
	}
	if !maySign(e, sub, self) {
		return "the key is not for signing"
	}
	return ""
}

// maySign tells whether a key's own signature lets it sign. As in GnuPG, a key
// that says nothing of its uses may do what its algorithm can; as a subkey it must
// have signed its binding in return, as every signing subkey must.
func maySign(e *openpgp.Entity, sub *openpgp.Subkey, self *packet.Signature) bool {
	if self.FlagsValid {
		return self.FlagSign
	}
	if sub == nil {
		return e.PrimaryKey.PubKeyAlgo.CanSign()
	}
	crossed := *self
	crossed.FlagSign = true // has the signature in return checked
	return sub.PublicKey.PubKeyAlgo.CanSign() && e.PrimaryKey.VerifyKeySignature(sub.PublicKey, &crossed) == nil
}

const (
	revokedKey    = "the key is revoked"
	revokedSubkey = "the subkey is revoked"
)

func dateText(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 MST") }
