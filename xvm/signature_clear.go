package xvm

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
)

// clearBegin is how a clear-signed text begins.
const clearBegin = "-----BEGIN PGP SIGNED MESSAGE-----"

// IsClearSigned tells whether b looks like a clear-signed text.
func IsClearSigned(b []byte) bool { return bytes.HasPrefix(b, []byte(clearBegin)) }

// ClearText checks a clear-signed text (RFC 9580, section 7) and returns what was signed,
// with \n at the end of lines. Nothing may stand around it. A nil Keyring checks nothing: then
// the signature is nil. The rules are those of [Keyring.Verify].
func (k *Keyring) ClearText(b []byte, now time.Time) (text []byte, by *GoodSignature, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser is not ours
			text, by, err = nil, nil, fmt.Errorf("%w: malformed clear-signed text", ErrSignature)
		}
	}()
	block, rest := clearsign.Decode(b)
	if block == nil || !IsClearSigned(b) || len(bytes.TrimSpace(rest)) > 0 {
		return nil, nil, fmt.Errorf("%w: it is no clear-signed text, or there is something around it", ErrSignature)
	}
	if k != nil {
		signature, err := io.ReadAll(io.LimitReader(block.ArmoredSignature.Body, MaxSignatureSize+1))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: malformed armor: %v", ErrSignature, err)
		}
		if by, err = k.Verify(block.Bytes, signature, now); err != nil {
			return nil, nil, err
		}
	}
	return append(bytes.ReplaceAll(block.Bytes, []byte("\r\n"), []byte("\n")), '\n'), by, nil
}
