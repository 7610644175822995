package xvm

import (
	"bytes"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// A verdict on a signature changes by itself at few moments only: when a key or a
// signature begins or ends to count. They are collected, generously, so that a
// verdict is known to stand between two of them, whichever way the clock goes.

// maxProbes bounds how many of the moments to come are tried for [Signature.Expires].
const maxProbes = 8

// span is a time between two moments.
type span struct{ from, until time.Time } // until zero: without end

// spanAt is the span around now that holds none of the moments.
func spanAt(now time.Time, moments []time.Time) (s span) {
	for _, t := range moments {
		switch {
		case !t.After(now):
			if t.After(s.from) {
				s.from = t
			}
		case s.until.IsZero() || t.Before(s.until):
			s.until = t
		}
	}
	return s
}

func (s span) holds(now time.Time) bool {
	return !now.Before(s.from) && (s.until.IsZero() || now.Before(s.until))
}

// moments are those at which the outcome of Verify may change for this signature
// file.
func (k *Keyring) moments(signature []byte) (moments []time.Time) {
	sigs, err := splitSignatures(signature)
	if err != nil {
		return nil
	}
	for _, raw := range sigs {
		sig, ok := nextPacket(packet.NewReader(bytes.NewReader(raw))).(*packet.Signature)
		if !ok || sig.IssuerKeyId == nil {
			continue
		}
		moments = append(moments, sig.CreationTime.Add(-maxClockSkew))
		moments = appendSignatureMoments(moments, sig)
		for _, i := range k.byID[*sig.IssuerKeyId] {
			moments = append(moments, k.keys[i].moments...)
		}
	}
	return moments
}

// expires is the first moment after now at which a good signature stops to count;
// zero: none is known.
func (k *Keyring) expires(signed, signature []byte, now time.Time, moments []time.Time) time.Time {
	later := slices.DeleteFunc(slices.Clone(moments), func(t time.Time) bool { return !t.After(now) })
	slices.SortFunc(later, time.Time.Compare)
	for _, t := range later[:min(len(later), maxProbes)] {
		if _, err := k.Verify(signed, signature, t); err != nil {
			return t
		}
	}
	return time.Time{}
}

// keyMoments are those of a key and of all signatures that came with it.
func keyMoments(packets []byte) (moments []time.Time) {
	r := packet.NewReader(bytes.NewReader(packets))
	var created []time.Time // of the primary key and of the last subkey
	for {
		switch p := nextPacket(r).(type) {
		case nil:
			return moments
		case *packet.PublicKey, *packet.PrivateKey:
			at := publicKey(p).CreationTime
			created = append(created[:min(len(created), 1)], at)
			moments = append(moments, at)
		case *packet.Signature:
			moments = appendSignatureMoments(moments, p)
			if p.EmbeddedSignature != nil {
				moments = appendSignatureMoments(moments, p.EmbeddedSignature)
			}
			if n := p.KeyLifetimeSecs; n != nil && *n > 0 {
				for _, t := range created {
					moments = append(moments, afterSeconds(t, *n))
				}
			}
		}
	}
}

func appendSignatureMoments(moments []time.Time, sig *packet.Signature) []time.Time {
	moments = append(moments, sig.CreationTime)
	if n := sig.SigLifetimeSecs; n != nil && *n > 0 {
		moments = append(moments, afterSeconds(sig.CreationTime, *n))
	}
	return moments
}

// afterSeconds is the first second at which something has expired that lasts for
// n: in its last second it still counts.
func afterSeconds(t time.Time, n uint32) time.Time {
	return t.Add(time.Duration(n)*time.Second + time.Second)
}

// nextPacket reads one packet; nil is the end, or what cannot be read. The parser
// is not ours: should it ever panic, that is the end as well.
func nextPacket(r *packet.Reader) (p packet.Packet) {
	defer func() {
		if recover() != nil {
			p = nil
		}
	}()
	p, err := r.Next()
	if err != nil {
		return nil
	}
	return p
}
