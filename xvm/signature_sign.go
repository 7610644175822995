package xvm

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Signer makes detached signatures with a secret key. It is for one goroutine.
type Signer struct {
	entity *openpgp.Entity
}

// NewSigner makes a new Ed25519 key that does not expire, valid from the time
// at, and that GnuPG 2.1 and later accept.
func NewSigner(name, email string, at time.Time) (*Signer, error) {
	e, err := openpgp.NewEntity(name, "", email, signConfig(at))
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return &Signer{entity: e}, nil
}

// ParseSigner reads a secret key, armored or binary; the first one if there are
// several. passphrase is for keys that are encrypted.
func ParseSigner(key, passphrase []byte) (*Signer, error) {
	if len(key) > maxKeySize {
		return nil, fmt.Errorf("read secret key: larger than %d bytes", maxKeySize)
	}
	bodies, err := openPGPBodies(key, func(kind string) (bool, error) { return kind == openpgp.PrivateKeyType, nil })
	if err != nil {
		return nil, fmt.Errorf("read secret key: %w", err)
	}
	if len(bodies) == 0 {
		return nil, errors.New("read secret key: the file holds none")
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(bodies[0])))
	if err != nil {
		return nil, fmt.Errorf("read secret key: %w", err)
	}
	if e.PrivateKey == nil {
		return nil, errors.New("read secret key: the file holds a public key only")
	}
	if len(passphrase) > 0 {
		if err := e.DecryptPrivateKeys(passphrase); err != nil {
			return nil, fmt.Errorf("read secret key: the passphrase is wrong, or the key damaged: %w", err)
		}
	} else if locked(e) {
		return nil, errors.New("read secret key: it needs a passphrase")
	}
	return &Signer{entity: e}, nil
}

// locked tells whether a key has secret parts, and each needs its passphrase.
func locked(e *openpgp.Entity) bool {
	keys := []*packet.PrivateKey{e.PrivateKey}
	for _, sub := range e.Subkeys {
		keys = append(keys, sub.PrivateKey)
	}
	keys = slices.DeleteFunc(keys, func(k *packet.PrivateKey) bool { return k == nil || k.Dummy() })
	return len(keys) > 0 && !slices.ContainsFunc(keys, func(k *packet.PrivateKey) bool { return !k.Encrypted })
}

// Fingerprint is that of the primary key, in upper-case hexadecimal.
func (s *Signer) Fingerprint() string { return fmt.Sprintf("%X", s.entity.PrimaryKey.Fingerprint) }

// Sign returns an armored detached signature over data, dated at. RSA and
// Ed25519 keys give the same bytes for the same input.
func (s *Signer) Sign(data []byte, at time.Time) ([]byte, error) {
	config := signConfig(at)
	key, ok := s.entity.SigningKey(at, config)
	switch {
	case !ok:
		return nil, fmt.Errorf("sign with key %s: it cannot sign at %s", s.Fingerprint(), dateText(at))
	case key.PrivateKey == nil || key.PrivateKey.Dummy():
		return nil, fmt.Errorf("sign with key %s: its secret part is missing", s.Fingerprint())
	case key.PrivateKey.Encrypted:
		return nil, fmt.Errorf("sign with key %s: a passphrase is needed", s.Fingerprint())
	}
	var raw bytes.Buffer
	if err := openpgp.DetachSign(&raw, []*openpgp.Entity{s.entity}, bytes.NewReader(data), config); err != nil {
		return nil, fmt.Errorf("sign with key %s: %w", s.Fingerprint(), err)
	}
	return encodeArmor(openpgp.SignatureType, raw.Bytes())
}

// PublicKey returns the armored public key, as keyrings take it.
func (s *Signer) PublicKey() ([]byte, error) {
	var raw bytes.Buffer
	if err := s.entity.Serialize(&raw); err != nil {
		return nil, fmt.Errorf("write public key: %w", err)
	}
	return encodeArmor(openpgp.PublicKeyType, raw.Bytes())
}

// SecretKey returns the armored secret key, not encrypted, as [ParseSigner] takes it.
func (s *Signer) SecretKey() ([]byte, error) {
	var raw bytes.Buffer
	if err := s.entity.SerializePrivateWithoutSigning(&raw, nil); err != nil {
		return nil, fmt.Errorf("write secret key: %w", err)
	}
	return encodeArmor(openpgp.PrivateKeyType, raw.Bytes())
}

// signConfig makes signatures that depend on nothing but key, data and time.
func signConfig(at time.Time) *packet.Config {
	return &packet.Config{
		Time:                                  func() time.Time { return at },
		Algorithm:                             packet.PubKeyAlgoEdDSA,
		Curve:                                 packet.Curve25519,
		DefaultHash:                           crypto.SHA512,
		NonDeterministicSignaturesViaNotation: packet.BoolPointer(false),
		// DSA of 2048 bits is accepted from others, hence also made.
		RejectPublicKeyAlgorithms: map[packet.PublicKeyAlgorithm]bool{packet.PubKeyAlgoElGamal: true},
	}
}

// Since is the earliest time at which all of the key, as it is now, was there:
// no signature can be dated before. It depends on the key alone.
func (s *Signer) Since() time.Time {
	since := s.entity.PrimaryKey.CreationTime
	latest := func(t time.Time) {
		if t.After(since) {
			since = t
		}
	}
	for _, id := range s.entity.Identities {
		for _, sig := range id.SelfCertifications {
			latest(sig.Packet.CreationTime)
		}
	}
	for _, sub := range s.entity.Subkeys {
		latest(sub.PublicKey.CreationTime)
		for _, sig := range sub.Bindings {
			latest(sig.Packet.CreationTime)
		}
	}
	for _, sig := range s.entity.DirectSignatures {
		latest(sig.Packet.CreationTime)
	}
	return since
}
