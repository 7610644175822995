package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
)

type armorBlock struct {
	kind string // "PGP SIGNATURE"
	body []byte
}

// armorBlocks decodes every armored block of a text; what stands around them
// is ignored.
func armorBlocks(b []byte) ([]armorBlock, error) {
	var blocks []armorBlock
	kind, start := "", 0
	for pos := 0; pos < len(b); {
		end := len(b)
		if i := bytes.IndexByte(b[pos:], '\n'); i >= 0 {
			end = pos + i + 1
		}
		line := string(bytes.TrimSpace(b[pos:end]))
		switch marker, ok := strings.CutSuffix(line, "-----"); {
		case !ok:
		case marker == "-----BEGIN PGP SIGNED MESSAGE":
			return nil, errors.New("a cleartext message, no detached signature or key")
		case kind == "" && strings.HasPrefix(marker, "-----BEGIN "):
			kind, start = strings.TrimPrefix(marker, "-----BEGIN "), pos
		case kind != "" && strings.HasPrefix(marker, "-----BEGIN "):
			return nil, fmt.Errorf("armor %.40q begins within another", line)
		case kind != "" && marker == "-----END "+kind:
			a, err := decodeArmor(b[start:end], kind)
			if err != nil {
				return nil, err
			}
			blocks = append(blocks, a)
			kind = ""
		}
		pos = end
	}
	if kind != "" {
		return nil, fmt.Errorf("armor %.40q does not end", kind)
	}
	if len(blocks) == 0 {
		return nil, errors.New("neither armored nor binary OpenPGP data")
	}
	return blocks, nil
}

// openPGPBodies are the packets of binary data, or those of each armored block that
// use takes. An error of use is one of all.
func openPGPBodies(b []byte, use func(kind string) (bool, error)) ([][]byte, error) {
	if len(b) > 0 && b[0]&0x80 != 0 {
		return [][]byte{b}, nil
	}
	blocks, err := armorBlocks(b)
	if err != nil {
		return nil, err
	}
	var bodies [][]byte
	for _, a := range blocks {
		ok, err := use(a.kind)
		if err != nil {
			return nil, err
		}
		if ok {
			bodies = append(bodies, a.body)
		}
	}
	return bodies, nil
}

func decodeArmor(b []byte, kind string) (armorBlock, error) {
	// The decoder wants the last line ended, too.
	block, err := armor.Decode(io.MultiReader(bytes.NewReader(b), strings.NewReader("\n")))
	if err != nil || block.Type != kind {
		return armorBlock{}, fmt.Errorf("armor %.40q is malformed", kind)
	}
	body, err := io.ReadAll(block.Body)
	if err != nil {
		return armorBlock{}, fmt.Errorf("armor %.40q is malformed: %v", kind, err)
	}
	return armorBlock{kind: kind, body: body}, nil
}

func encodeArmor(kind string, body []byte) ([]byte, error) {
	var out bytes.Buffer
	w, err := armor.Encode(&out, kind, nil)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
