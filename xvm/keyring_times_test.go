package xvm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// TestVerdictStands walks the clock over everything that may change a verdict,
// and asks for it anew only when the last one says that it may not stand: that
// must come to the same as asking each time.
func TestVerdictStands(t *testing.T) {
	t.Parallel()
	for _, c := range signatureCases {
		ring, err := ParseKeyring(readKeyFile(t, "testdata/keys", c.key))
		if err != nil {
			continue
		}
		message, sig := readKeyFile(t, "testdata/keys", "message.txt"), readKeyFile(t, "testdata/keys", c.sig)
		moments := ring.moments(sig)
		var clock []time.Time
		for _, m := range moments {
			for _, d := range []time.Duration{-25 * time.Hour, -time.Second, 0, time.Second, 2 * time.Second, 25 * time.Hour} {
				clock = append(clock, m.Add(d))
			}
		}
		for i, n := 0, len(clock); i < n; i++ { // and backwards, and to and fro
			clock = append(clock, clock[n-1-i], clock[(i*7)%n])
		}
		e := Evidence{Index: &Index{Size: 1 << 20, Members: []Member{{Name: ManifestName}, {Name: ManifestSignatureName}}},
			Small: map[string][]byte{ManifestName: message, ManifestSignatureName: sig}}
		p := Policy{Keyring: ring, Required: true}
		var v *Verdict
		judged := 0
		for _, now := range clock {
			if v == nil || !v.Stands(p, now) {
				v, _ = Judge(e, p, now)
				judged++
			}
			fresh, _ := Judge(e, p, now)
			if fresh.Manifest.State != v.Manifest.State || fresh.Refused != v.Refused || !fresh.Manifest.Expires.Equal(v.Manifest.Expires) {
				t.Errorf("%s at %s: the verdict that stands is %+v, a new one %+v", c.name, now, v.Manifest, fresh.Manifest)
				break
			}
		}
		if v != nil && v.Stands(Policy{Keyring: new(Keyring), Required: true}, clock[0]) {
			t.Errorf("%s: it stands with other keys", c.name)
		}
		if len(clock) > 0 && judged == len(clock) {
			t.Errorf("%s: it never stands", c.name)
		}
	}
}

// TestExpires: the moment that a key's owner gave it is told, and it is the one
// at which the signature stops to count.
func TestExpires(t *testing.T) {
	t.Parallel()
	life := 40 * 24 * time.Hour
	e, err := openpgp.NewEntity("short", "", "short@example.org", &packet.Config{
		Time: func() time.Time { return judgedAt }, KeyLifetimeSecs: uint32(life / time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &Signer{entity: e}
	public, err := s.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	ring, err := ParseKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	j := newJudged(t, s).manifestOf("a.img")
	p := Policy{Keyring: ring, Required: true}
	v, err := Judge(j.e, p, judgedAt.Add(time.Hour))
	if err != nil || v.Refused != "" {
		t.Fatal(err, v.Refused)
	}
	at, of := v.Expires()
	if d := at.Sub(judgedAt.Add(life)); d < 0 || d > 2*time.Second || of.Signer != "short <short@example.org>" {
		t.Errorf("expires %s, %+v", at, of)
	}
	if v, _ := Judge(j.e, p, at.Add(-time.Second)); v.Refused != "" {
		t.Error("refused a second before:", v.Refused)
	}
	if v, _ := Judge(j.e, p, at); v.Refused == "" {
		t.Error("not refused then")
	}
	key, ring2 := testSigner(t, "eternal")
	v, _ = Judge(newJudged(t, key).manifestOf("a.img").e, Policy{Keyring: ring2}, judgedAt)
	if at, _ := v.Expires(); !at.IsZero() {
		t.Errorf("a key without end expires %s", at)
	}
}

// TestRevokedCopy: where a keyring has a key twice, the copy that is revoked
// counts.
func TestRevokedCopy(t *testing.T) {
	t.Parallel()
	key, _ := testSigner(t, "publisher")
	j := newJudged(t, key).manifestOf("a.img")
	public, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	if err := key.entity.Revoke(packet.KeyCompromised, "stolen", signConfig(judgedAt.Add(time.Hour))); err != nil {
		t.Fatal(err)
	}
	gone, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, both := range [][]byte{append(bytes.Clone(public), gone...), append(bytes.Clone(gone), public...)} {
		ring, err := ParseKeyring(both)
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := Judge(j.e, Policy{Keyring: ring, Required: true}, judgedAt.Add(2*time.Hour)); v.Refused == "" {
			t.Error("not refused")
		}
	}
}

// TestKeyFlags compares with gpg what keys may sign: a key that says nothing of
// its uses may do what its algorithm can.
func TestKeyFlags(t *testing.T) {
	t.Parallel()
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("needs gpg")
	}
	message := []byte("what is signed\n")
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	config := &packet.Config{Time: func() time.Time { return at }}
	for name, c := range map[string]struct {
		primary func(*packet.Signature)                      // changes what the primary key says of itself
		sub     func(e *openpgp.Entity, s *packet.Signature) // changes how the signing subkey is bound; nil: there is none
		good    bool
	}{
		"flags":                  {func(*packet.Signature) {}, nil, true},
		"no flags":               {func(s *packet.Signature) { s.FlagsValid = false }, nil, true},
		"flags, none for this":   {func(s *packet.Signature) { s.FlagSign = false }, nil, false},
		"subkey":                 {func(*packet.Signature) {}, func(*openpgp.Entity, *packet.Signature) {}, true},
		"subkey without flags":   {func(*packet.Signature) {}, func(_ *openpgp.Entity, s *packet.Signature) { s.FlagsValid = false }, true},
		"subkey for another use": {func(*packet.Signature) {}, func(_ *openpgp.Entity, s *packet.Signature) { s.FlagSign, s.FlagAuthenticate = false, true }, false},
		"subkey without flags, not signed in return": {func(*packet.Signature) {}, func(_ *openpgp.Entity, s *packet.Signature) {
			s.FlagsValid, s.FlagSign, s.EmbeddedSignature = false, false, nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := openpgp.NewEntity("someone", "", "someone@example.org", config)
			if err != nil {
				t.Fatal(err)
			}
			e.Subkeys = nil
			if c.sub != nil {
				if err := e.AddSigningSubkey(config); err != nil {
					t.Fatal(err)
				}
			}
			signWith := &e.PrivateKey
			if c.sub != nil {
				signWith = &e.Subkeys[0].PrivateKey
			}
			sig := &packet.Signature{
				Version: (*signWith).Version, SigType: packet.SigTypeBinary, PubKeyAlgo: (*signWith).PubKeyAlgo,
				Hash: config.Hash(), CreationTime: at, IssuerKeyId: &(*signWith).KeyId, IssuerFingerprint: (*signWith).Fingerprint,
			}
			h := sig.Hash.New()
			h.Write(message)
			if err := sig.Sign(h, *signWith, config); err != nil {
				t.Fatal(err)
			}
			for _, id := range e.Identities {
				self := id.SelfCertifications[0].Packet
				c.primary(self)
				if err := self.SignUserId(id.UserId.Id, e.PrimaryKey, e.PrivateKey, config); err != nil {
					t.Fatal(err)
				}
			}
			if c.sub != nil {
				binding := e.Subkeys[0].Bindings[0].Packet
				c.sub(e, binding)
				if err := binding.SignKey(e.Subkeys[0].PublicKey, e.PrivateKey, config); err != nil {
					t.Fatal(err)
				}
			}
			var public, signature bytes.Buffer
			if err := e.Serialize(&public); err != nil {
				t.Fatal(err)
			}
			if err := sig.Serialize(&signature); err != nil {
				t.Fatal(err)
			}

			home, err := os.MkdirTemp("/tmp", "vmcast-gpg-")
			if err != nil {
				t.Fatal(err)
			}
			defer os.RemoveAll(home)
			for name, content := range map[string][]byte{"key": public.Bytes(), "sig": signature.Bytes(), "message": message} {
				if err := os.WriteFile(filepath.Join(home, name), content, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run := func(args ...string) ([]byte, error) {
				cmd := exec.Command(gpg, append([]string{"--batch", "--no-autostart", "--homedir", home}, args...)...)
				cmd.Dir = home
				return cmd.CombinedOutput()
			}
			if out, err := run("--import", "key"); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, gpgErr := run("--verify", "sig", "message")
			ring, err := ParseKeyring(public.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			_, err = ring.Verify(message, signature.Bytes(), time.Now())
			if (err == nil) != c.good || (gpgErr == nil) != c.good {
				t.Errorf("want good: %v; we say %v, gpg %v\n%s", c.good, err, gpgErr, out)
			}
		})
	}
}
