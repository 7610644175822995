package xvm

import (
	"bytes"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// revoke gives keys the revocations that the keyring holds for them. A revocation
// certificate is a signature alone: in a file of its own, behind the key, or in
// another armored block. As in GnuPG it counts wherever it stands. The parser knows
// only those that follow the primary key, so they are put there.
func (k *Keyring) revoke() {
	for _, raw := range k.revocations {
		sig, ok := nextPacket(packet.NewReader(bytes.NewReader(raw))).(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			continue
		}
		for _, i := range k.byID[*sig.IssuerKeyId] {
			key := &k.keys[i]
			primary := publicKey(nextPacket(packet.NewReader(bytes.NewReader(key.packets))))
			rest := bytes.NewReader(key.packets)
			if _, err := packet.NewOpaqueReader(rest).Next(); err != nil || primary == nil || primary.VerifyRevocationSignature(sig) != nil {
				continue // that of a subkey has another type
			}
			at := len(key.packets) - rest.Len()
			if !bytes.HasPrefix(key.packets[at:], raw) {
				key.packets = bytes.Join([][]byte{key.packets[:at], raw, key.packets[at:]}, nil)
				key.moments = keyMoments(key.packets)
			}
		}
	}
	k.revocations = nil
}

func publicKey(p packet.Packet) *packet.PublicKey {
	switch p := p.(type) {
	case *packet.PublicKey:
		return p
	case *packet.PrivateKey:
		return &p.PublicKey
	}
	return nil
}

// isRevocation reports whether the body of a signature packet is that of a key
// revocation. Versions 4 and 6 tell their type second, version 3 third.
func isRevocation(body []byte) bool {
	return len(body) > 2 && (body[0] >= 4 && body[1] == byte(packet.SigTypeKeyRevocation) || body[0] < 4 && body[2] == byte(packet.SigTypeKeyRevocation))
}
