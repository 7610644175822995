package xvm

import (
	"bytes"
	"crypto"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

func readKeyFile(t testing.TB, dir, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// signatureCases are what testdata/keys/make.sh makes; want is "" for a good
// signature, else part of the reason.
var signatureCases = []struct{ name, key, sig, want string }{
	{"rsa", "rsa.key", "rsa.sig", ""},
	{"dsa of 2048 bits", "dsa.key", "dsa.sig", ""},
	{"ecdsa", "ecdsa.key", "ecdsa.sig", ""},
	{"ed25519", "ed25519.key", "ed25519.sig", ""},
	{"signing subkey", "subkey.key", "subkey.sig", ""},
	{"binary signature", "rsa.key", "binary.sig", ""},
	{"text signature", "rsa.key", "text.sig", ""},
	{"second of two keys", "two.key", "ed25519.sig", ""},
	{"second of two binary keys", "two.gpg", "ed25519.sig", ""},
	{"S5 over another file", "rsa.key", "other.sig", "does not match"},
	{"S6 inline", "rsa.key", "inline.sig", "no detached signature"},
	{"S6 inline binary", "rsa.key", "inlinebinary.sig", "no detached signature"},
	{"S6 cleartext", "rsa.key", "clear.sig", "a cleartext message"},
	{"S7 unknown issuer", "rsa.key", "ed25519.sig", "not in the keyring"},
	{"S7 two, both good", "two.key", "both.sig", ""},
	{"S7 two, one unknown", "rsa.key", "both.sig", ""},
	{"S7 two, the good one unknown", "rsa.key", "mixed.sig", "does not match"},
	{"S7 two, one bad", "two.key", "mixed.sig", ""},
	{"S7 junk around", "rsa.key", "junk.sig", ""},
	{"S8 sha-1 digest", "sha1.key", "sha1.sig", "broken digest SHA-1"},
	{"S8 weak rsa", "weakrsa.key", "weakrsa.sig", "too weak: 1024 bits"},
	{"S8 weak dsa", "weakdsa.key", "weakdsa.sig", "too weak: 1024 bits"},
	{"S9 expired key", "expired.key", "expired.sig", "the key has expired"},
	{"S9 expired signature", "sigexpired.key", "sigexpired.sig", "signature expired on 2020-01-02"},
	{"S9 expiry extended later", "extended.key", "extended.sig", ""},
	{"S9 revoked as compromised", "revoked.key", "revoked.sig", "the key is revoked"},
	{"S9 revoked later as superseded", "superseded.key", "superseded.sig", ""},
	{"S9 signed in the future", "future.key", "future.sig", "dated in the future: 2060-01-01"},
	{"S11 key beside the signature", "rsa.key", "withkey.sig", ""},
	{"S11 key in the signature file only", "dsa.key", "withkey.sig", "not in the keyring"},
	{"no signature at all", "rsa.key", "message.txt", "neither armored nor binary"},
	{"a key for a signature", "rsa.key", "rsa.key", "no signature"},
}

func checkSignatures(t *testing.T, dir string, now time.Time) {
	message := readKeyFile(t, dir, "message.txt")
	for _, tt := range signatureCases {
		t.Run(tt.name, func(t *testing.T) {
			k, err := LoadKeyring(filepath.Join(dir, tt.key))
			if err != nil {
				t.Fatal(err)
			}
			sig := readKeyFile(t, dir, tt.sig)
			v, err := k.Verify(message, sig, now)
			if tt.want != "" {
				if v != nil || !errors.Is(err, ErrSignature) || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Verify = %v, %v, want %q", v, err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			info := k.keys[0]
			if strings.HasPrefix(tt.key, "two") && !strings.HasPrefix(v.Signer, "rsa") {
				info = k.keys[1]
			}
			if v.Signer != info.identity || v.Fingerprint != info.fingerprint || v.Time.IsZero() || len(v.KeyID) != 16 {
				t.Errorf("%+v by %+v", v, info)
			}
			if name, _, _ := strings.Cut(tt.sig, "."); strings.HasPrefix(tt.key, name) && v.Signer != name+" <"+name+"@example.org>" {
				t.Errorf("signer %q", v.Signer)
			}
			if (v.KeyID != keyIDText(info.ids[0])) != (tt.key == "subkey.key") {
				t.Errorf("key id %s, primary %s", v.KeyID, keyIDText(info.ids[0]))
			}
			// Whatever is flipped in the signed bytes, the signature is bad.
			for i := range message {
				tampered := bytes.Clone(message)
				tampered[i] ^= 1
				if v, err := k.Verify(tampered, sig, now); err == nil {
					t.Fatalf("byte %d flipped: %+v", i, v)
				}
			}
			if _, err := k.Verify(append(bytes.Clone(message), '\n'), sig, now); err == nil {
				t.Error("a line appended is not noticed")
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	t.Parallel()
	checkSignatures(t, "testdata/keys", time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
}

// requireTool skips a test that lacks a program, but not in CI.
func requireTool(t *testing.T, tool string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
}

// TestSignaturesOfGnuPG makes all keys and signatures afresh.
func TestSignaturesOfGnuPG(t *testing.T) {
	t.Parallel()
	requireTool(t, "gpg")
	if testing.Short() {
		t.Skip("makes keys")
	}
	dir := t.TempDir()
	if out, err := exec.Command("sh", "testdata/keys/make.sh", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkSignatures(t, dir, time.Now())
}

func TestSignatureFaultsAreTold(t *testing.T) {
	t.Parallel()
	k, err := LoadKeyring("testdata/keys/rsa.key")
	if err != nil {
		t.Fatal(err)
	}
	message, now := readKeyFile(t, "testdata/keys", "message.txt"), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	other, err := LoadKeyring("testdata/keys/ed25519.key")
	if err != nil {
		t.Fatal(err)
	}
	id := keyIDText(other.keys[0].ids[0])
	v, err := k.Verify(message, readKeyFile(t, "testdata/keys", "both.sig"), now)
	if err != nil || len(v.Others) != 1 || !strings.Contains(v.Others[0], id) {
		t.Errorf("%+v, %v", v, err)
	}
	_, err = k.Verify(message, readKeyFile(t, "testdata/keys", "ed25519.sig"), now)
	if !errors.Is(err, ErrSignature) || strings.Contains(err.Error(), ";") || !strings.Contains(err.Error(), id) {
		t.Errorf("%v", err)
	}
}

func TestS7TooManySignatures(t *testing.T) {
	t.Parallel()
	k, err := LoadKeyring("testdata/keys/rsa.key")
	if err != nil {
		t.Fatal(err)
	}
	one := readKeyFile(t, "testdata/keys", "binary.sig")
	for _, sig := range [][]byte{nil, bytes.Repeat(one, MaxSignatures+1), make([]byte, MaxSignatureSize+1), {0x80}, {0xc2, 0xff, 0xff, 0xff, 0xff, 0xff}} {
		if _, err := k.Verify(nil, sig, time.Now()); !errors.Is(err, ErrSignature) {
			t.Errorf("%d bytes: %v", len(sig), err)
		}
	}
}

// TestS9SignatureItself: what its key vouches for is no good all the same if it
// is older than that, or asks for what is not known.
func TestS9SignatureItself(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	e, err := openpgp.NewEntity("s", "", "s@example.org", signConfig(at))
	if err != nil {
		t.Fatal(err)
	}
	public, err := (&Signer{entity: e}).PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKeyring(public)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		change func(*packet.Signature)
		want   string
	}{
		"untouched": {func(*packet.Signature) {}, ""},
		"known to be unknown": {func(s *packet.Signature) {
			s.Notations = []*packet.Notation{{Name: "a@example.org", Value: []byte("b")}}
		}, ""},
		"older than its key": {func(s *packet.Signature) { s.CreationTime = at.Add(-time.Minute) }, "older than its key"},
		"of the far past":    {func(s *packet.Signature) { s.CreationTime = time.Unix(1, 0) }, "older than its key"},
		"with a critical demand": {func(s *packet.Signature) {
			s.Notations = []*packet.Notation{{Name: "a\x1b@example.org", IsCritical: true}}
		}, "critical notation"},
		"of another thing": {func(s *packet.Signature) { s.SigType = packet.SigTypeGenericCert }, "not over a file"},
	} {
		sig := &packet.Signature{Version: e.PrimaryKey.Version, SigType: packet.SigTypeBinary, PubKeyAlgo: e.PrimaryKey.PubKeyAlgo,
			Hash: crypto.SHA512, CreationTime: at.Add(time.Minute), IssuerKeyId: &e.PrimaryKey.KeyId}
		tt.change(sig)
		h, err := sig.PrepareSign(signConfig(at))
		if err != nil {
			t.Fatal(err)
		}
		h.Write([]byte("x"))
		if err := sig.Sign(h, e.PrivateKey, signConfig(at)); err != nil {
			t.Fatal(err)
		}
		var raw bytes.Buffer
		if err := sig.Serialize(&raw); err != nil {
			t.Fatal(err)
		}
		v, err := k.Verify([]byte("x"), raw.Bytes(), at.Add(time.Hour))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\x1b")):
			t.Errorf("%s: %+v %v, want %q", name, v, err, tt.want)
		}
	}
}

// TestS9Subkeys: subkeys that are not for signing, or that do not vouch for
// their primary key in turn, sign nothing.
func TestS9Subkeys(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	now := at.Add(time.Hour)
	for name, tt := range map[string]struct {
		change func(binding *packet.Signature)
		want   string
	}{
		"untouched":             {func(*packet.Signature) {}, ""},
		"for encryption only":   {func(b *packet.Signature) { b.FlagSign, b.FlagEncryptStorage = false, true }, "not for signing"},
		"without cross-binding": {func(b *packet.Signature) { b.EmbeddedSignature = nil }, "not validly bound"},
		"expired":               {func(b *packet.Signature) { life := uint32(60); b.KeyLifetimeSecs = &life }, "subkey has expired"},
	} {
		t.Run(name, func(t *testing.T) {
			config := signConfig(at)
			e, err := openpgp.NewEntity("sub", "", "sub@example.org", config)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.AddSigningSubkey(config); err != nil {
				t.Fatal(err)
			}
			s := &Signer{entity: e}
			sig, err := s.Sign([]byte("x"), at)
			if err != nil {
				t.Fatal(err)
			}
			sub := &e.Subkeys[len(e.Subkeys)-1]
			binding := sub.Bindings[0].Packet
			tt.change(binding)
			if err := binding.SignKey(sub.PublicKey, e.PrivateKey, config); err != nil {
				t.Fatal(err)
			}
			public, err := s.PublicKey()
			if err != nil {
				t.Fatal(err)
			}
			k, err := ParseKeyring(public)
			if err != nil {
				t.Fatal(err)
			}
			v, err := k.Verify([]byte("x"), sig, now)
			if tt.want == "" {
				if err != nil || v.KeyID == keyIDText(k.keys[0].ids[0]) {
					t.Errorf("%+v %v", v, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v %v, want %q", v, err, tt.want)
			}
		})
	}
}

func TestVerifyConcurrently(t *testing.T) {
	t.Parallel()
	k, err := LoadKeyring("testdata/keys/two.key")
	if err != nil {
		t.Fatal(err)
	}
	message, sig := readKeyFile(t, "testdata/keys", "message.txt"), readKeyFile(t, "testdata/keys", "both.sig")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := k.Verify(message, sig, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestWeakDigests(t *testing.T) {
	t.Parallel()
	for h, want := range map[crypto.Hash]bool{crypto.MD5: true, crypto.SHA1: true, crypto.RIPEMD160: true, crypto.SHA256: false, crypto.SHA512: false} {
		if weakDigest(h) != want {
			t.Errorf("%v", h)
		}
	}
}

func FuzzVerify(f *testing.F) {
	k, err := LoadKeyring("testdata/keys/two.key")
	if err != nil {
		f.Fatal(err)
	}
	message, now := readKeyFile(f, "testdata/keys", "message.txt"), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	for _, name := range []string{"binary.sig", "rsa.sig", "both.sig", "clear.sig", "inlinebinary.sig", "text.sig", "withkey.sig"} {
		f.Add(readKeyFile(f, "testdata/keys", name))
	}
	f.Fuzz(func(t *testing.T, sig []byte) {
		v, err := k.Verify(message, sig, now)
		if (v == nil) == (err == nil) {
			t.Fatalf("%v, %v", v, err)
		}
		if _, err := k.Verify([]byte("something else"), sig, now); err == nil {
			t.Fatal("a signature over anything")
		}
	})
}
