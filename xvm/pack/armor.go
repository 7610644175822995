package pack

import (
	"encoding/base64"
	"errors"
	"strings"
)

// errArmor says that armor was changed in a way that OpenPGP does not care for.
var errArmor = errors.New("its armor is damaged")

// checkArmor compares the sum that armor may have at its end (RFC 4880,
// section 6.1). OpenPGP implementations ignore it, and parts of a signature are
// not signed: so a signature that was damaged on its way may still be good. To
// say that all of a package is as it was made, it has to be looked at.
func checkArmor(b []byte) error {
	_, text, armored := strings.Cut(string(b), "-----BEGIN PGP SIGNATURE-----\n")
	if !armored {
		return nil // binary, or somebody else's habits
	}
	if !strings.HasPrefix(text, "\n") { // header lines
		_, text, _ = strings.Cut(text, "\n\n")
	}
	text, after, _ := strings.Cut(text, "-----END ")
	body, sum, ok := strings.Cut(text, "\n=")
	if !ok {
		return nil
	}
	if after != "PGP SIGNATURE-----\n" && after != "PGP SIGNATURE-----" {
		return errArmor
	}
	raw, err := base64.StdEncoding.DecodeString(body)
	want, err2 := base64.StdEncoding.DecodeString(strings.TrimSuffix(sum, "\n"))
	if err != nil || err2 != nil || len(want) != 3 || crc24(raw) != uint32(want[0])<<16|uint32(want[1])<<8|uint32(want[2]) {
		return errArmor
	}
	return nil
}

func crc24(p []byte) uint32 {
	crc := uint32(0xb704ce)
	for _, c := range p {
		crc ^= uint32(c) << 16
		for range 8 {
			if crc <<= 1; crc&0x1000000 != 0 {
				crc ^= 0x1864cfb
			}
		}
	}
	return crc
}
