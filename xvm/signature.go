package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits of a detached signature.
const (
	MaxSignatureSize = 256 << 10        // bytes of the file
	MaxSignatures    = 16               // signatures in the file
	maxClockSkew     = 10 * time.Minute // a signature may be this far in the future
)

// ErrSignature is wrapped by every error of [Keyring.Verify].
var ErrSignature = errors.New("no good signature")

// GoodSignature is a good signature by a trusted key.
type GoodSignature struct {
	Signer      string    // a user id of the key, made harmless for a terminal
	KeyID       string    // of the primary key or subkey that signed, 16 hexadecimal digits
	Fingerprint string    // of the primary key
	Time        time.Time // the signature claims to have been made
	Others      []string  // why signatures beside it do not count
}

// Verify checks a detached signature, armored or binary, over exactly the bytes
// of signed. Of several signatures one must be good. now is the time at which
// keys and signatures must be unexpired. The rules are in signature_policy.go.
func (k *Keyring) Verify(signed, signature []byte, now time.Time) (*GoodSignature, error) {
	sigs, err := splitSignatures(signature)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	var good *GoodSignature
	var faults []string
	for _, raw := range sigs {
		v, fault := k.verifyOne(signed, raw, now)
		switch {
		case v == nil:
			faults = append(faults, fault)
		case good == nil:
			good = v
		}
	}
	if good == nil {
		return nil, fmt.Errorf("%w: %s", ErrSignature, strings.Join(faults, "; "))
	}
	good.Others = faults
	return good, nil
}

// splitSignatures takes a signature file apart into signature packets. Anything
// else in it, and first of all a message that carries a text of its own, is
// refused: what counts is our copy of the signed bytes.
func splitSignatures(b []byte) ([][]byte, error) {
	switch {
	case len(b) > MaxSignatureSize:
		return nil, fmt.Errorf("%d bytes exceed the limit of %d", len(b), MaxSignatureSize)
	case len(b) == 0:
		return nil, errors.New("the signature is empty")
	}
	bodies, err := openPGPBodies(b, func(kind string) (bool, error) {
		switch kind {
		case openpgp.SignatureType:
			return true, nil
		case openpgp.PublicKeyType: // keys that come with a package are never trusted
			return false, nil
		}
		return false, fmt.Errorf("%.40q is no detached signature", kind)
	})
	if err != nil {
		return nil, err
	}
	var sigs [][]byte
	for _, body := range bodies {
		r := packet.NewOpaqueReader(bytes.NewReader(body))
		for {
			p, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("malformed packets: %v", err)
			}
			const signature, marker = 2, 10
			switch p.Tag {
			case signature:
				var raw bytes.Buffer
				if err := p.Serialize(&raw); err != nil {
					return nil, err
				}
				sigs = append(sigs, raw.Bytes())
			case marker:
			default:
				return nil, fmt.Errorf("a message (packet type %d), no detached signature", p.Tag)
			}
			if len(sigs) > MaxSignatures {
				return nil, fmt.Errorf("more than %d signatures", MaxSignatures)
			}
		}
	}
	if len(sigs) == 0 {
		return nil, errors.New("it holds no signature")
	}
	return sigs, nil
}
