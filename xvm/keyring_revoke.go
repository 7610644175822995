package xvm

import (
	"bytes"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// revoke gives keys the revocations that the keyring holds for them. A revocation
// certificate is a signature alone: in a file of its own, behind the key, or in
// another armored block. Key servers have put those of subkeys elsewhere, too. As in
// GnuPG they count wherever they stand. The parser knows only those that follow what
// they revoke, so they are put there.
func (k *Keyring) revoke() {
	for _, raw := range k.revocations {
		sig, ok := nextPacket(packet.NewReader(bytes.NewReader(raw))).(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			continue
		}
		for _, i := range k.byID[*sig.IssuerKeyId] {
			key := &k.keys[i]
			if at := revokedAt(key.packets, sig); at > 0 && !bytes.HasPrefix(key.packets[at:], raw) {
				key.packets = bytes.Join([][]byte{key.packets[:at], raw, key.packets[at:]}, nil)
				key.moments = keyMoments(key.packets)
			}
		}
	}
	k.revocations = nil
}

// revokedAt is where the primary key or subkey ends that a signature revokes; 0: the
// packets hold none.
func revokedAt(packets []byte, sig *packet.Signature) int {
	var primary *packet.PublicKey
	rest := bytes.NewReader(packets)
	for r := packet.NewOpaqueReader(rest); ; {
		begin := len(packets) - rest.Len()
		if _, err := r.Next(); err != nil {
			return 0
		}
		end := len(packets) - rest.Len()
		key := publicKey(nextPacket(packet.NewReader(bytes.NewReader(packets[begin:end]))))
		switch {
		case key == nil:
		case primary == nil:
			primary = key
			if sig.SigType == packet.SigTypeKeyRevocation && key.VerifyRevocationSignature(sig) == nil {
				return end
			}
		case sig.SigType == packet.SigTypeSubkeyRevocation && primary.VerifySubkeyRevocationSignature(sig, key) == nil:
			return end
		}
	}
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

// isRevocation reports whether the body of a signature packet is that of the revocation
// of a key or subkey. Versions 4 and 6 tell their type second, version 3 third.
func isRevocation(body []byte) bool {
	if len(body) < 3 {
		return false
	}
	kind := body[1]
	if body[0] < 4 {
		kind = body[2]
	}
	return kind == byte(packet.SigTypeKeyRevocation) || kind == byte(packet.SigTypeSubkeyRevocation)
}
