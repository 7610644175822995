package xvm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// TestRevocationCertificates: what revokes a key counts wherever the keyring has it,
// as gpg --import takes it, and only if the key itself has signed it.
func TestRevocationCertificates(t *testing.T) {
	t.Parallel()
	publisher, _ := testSigner(t, "publisher")
	stranger, _ := testSigner(t, "stranger")
	j := newJudged(t, publisher).manifestOf("a.img")
	binary := func(s *Signer) []byte {
		var b bytes.Buffer
		if err := s.entity.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	armored := func(body []byte) []byte {
		b, err := encodeArmor(openpgp.PublicKeyType, body)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	key, other := binary(publisher), binary(stranger)
	certificate := func(of *Signer, issuer uint64, reason packet.ReasonForRevocation) []byte {
		e := *of.entity
		e.Revocations = nil
		if err := e.Revoke(reason, "", signConfig(judgedAt.Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		sig := e.Revocations[0].Packet
		id := *sig.IssuerKeyId
		var b bytes.Buffer
		if err := sig.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		raw := b.Bytes()
		var was, is [8]byte
		for i := range was {
			was[i], is[i] = byte(id>>(56-8*i)), byte(issuer>>(56-8*i))
		}
		return bytes.ReplaceAll(raw, was[:], is[:])
	}
	id := publisher.entity.PrimaryKey.KeyId
	stolen := certificate(publisher, id, packet.KeyCompromised)
	retired := certificate(publisher, id, packet.KeyRetired)
	forged := certificate(stranger, id, packet.KeyCompromised)
	for name, c := range map[string]struct {
		files [][]byte // of a directory, in the order of the alphabet; one: a file
		gone  bool
	}{
		"none":                           {[][]byte{key}, false},
		"behind the key":                 {[][]byte{append(bytes.Clone(key), stolen...)}, true},
		"behind another key":             {[][]byte{bytes.Join([][]byte{key, other, stolen}, nil)}, true},
		"before the key":                 {[][]byte{append(bytes.Clone(stolen), key...)}, true},
		"in another armor":               {[][]byte{append(armored(key), armored(stolen)...)}, true},
		"in a later file":                {[][]byte{key, armored(stolen)}, true},
		"in an earlier file":             {[][]byte{stolen, armored(key)}, true},
		"twice, and of a retired one":    {[][]byte{key, retired, stolen, stolen}, true},
		"retired after it had signed":    {[][]byte{key, retired}, false},
		"of a stranger, in its name":     {[][]byte{key, forged, append(bytes.Clone(other), forged...)}, false},
		"of a stranger, behind the key":  {[][]byte{append(bytes.Clone(key), forged...)}, false},
		"of the stranger":                {[][]byte{key, certificate(stranger, stranger.entity.PrimaryKey.KeyId, packet.KeyCompromised)}, false},
		"beside a file that is no key":   {[][]byte{key, []byte("hello"), stolen}, true},
		"cut off, so that nothing is it": {[][]byte{key, stolen[:len(stolen)-1]}, false},
	} {
		path := filepath.Join(t.TempDir(), "k")
		if len(c.files) > 1 {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for n, b := range c.files {
			file := path
			if len(c.files) > 1 {
				file = filepath.Join(path, string(rune('a'+n))+".gpg")
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		ring, err := LoadKeyring(path)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if v, _ := Judge(j.e, Policy{Keyring: ring, Required: true}, judgedAt.Add(2*time.Hour)); (v.Refused != "") != c.gone {
			t.Errorf("%s: refused %q, want it refused: %v", name, v.Refused, c.gone)
		}
	}
	if _, err := ParseKeyring(stolen); !errors.Is(err, ErrNoKeys) {
		t.Errorf("a revocation alone: %v", err)
	}
}

// TestSubkeyRevocationAnywhere: a subkey that its key has revoked is revoked wherever
// the revocation stands, as in GnuPG.
func TestSubkeyRevocationAnywhere(t *testing.T) {
	t.Parallel()
	config := signConfig(judgedAt)
	e, err := openpgp.NewEntity("someone", "", "someone@example.org", config)
	if err != nil {
		t.Fatal(err)
	}
	e.Subkeys = nil
	for range 2 {
		if err := e.AddSigningSubkey(config); err != nil {
			t.Fatal(err)
		}
	}
	message := []byte("what is signed\n")
	sign := func(with *packet.PrivateKey) []byte {
		sig := &packet.Signature{
			Version: with.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: with.PubKeyAlgo,
			Hash: config.Hash(), CreationTime: judgedAt, IssuerKeyId: &with.KeyId, IssuerFingerprint: with.Fingerprint,
		}
		h := sig.Hash.New()
		h.Write(message)
		if err := sig.Sign(h, with, config); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := sig.Serialize(&b); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	byFirst, bySecond := sign(e.Subkeys[0].PrivateKey), sign(e.Subkeys[1].PrivateKey)
	var public, revoked bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	if err := e.Subkeys[0].Revoke(packet.KeyCompromised, "", signConfig(judgedAt.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	if err := e.Subkeys[0].Revocations[0].Packet.Serialize(&revoked); err != nil {
		t.Fatal(err)
	}
	var parts [][]byte
	rest := bytes.NewReader(public.Bytes())
	for r := packet.NewOpaqueReader(rest); ; {
		begin := public.Len() - rest.Len()
		if _, err := r.Next(); err != nil {
			break
		}
		parts = append(parts, public.Bytes()[begin:public.Len()-rest.Len()])
	}
	if len(parts) != 7 {
		t.Fatalf("%d packets", len(parts))
	}
	for at := range len(parts) + 1 { // before the key, behind each packet
		ring, err := ParseKeyring(bytes.Join([][]byte{bytes.Join(parts[:at], nil), revoked.Bytes(), bytes.Join(parts[at:], nil)}, nil))
		if err != nil {
			t.Fatal(err)
		}
		now := judgedAt.Add(2 * time.Hour)
		if _, err := ring.Verify(message, byFirst, now); !errors.Is(err, ErrSignature) {
			t.Errorf("behind packet %d: the signature of the revoked subkey: %v", at, err)
		}
		if _, err := ring.Verify(message, bySecond, now); err != nil {
			t.Errorf("behind packet %d: the signature of the other subkey: %v", at, err)
		}
	}
}
