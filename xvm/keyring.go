package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits of a keyring.
const (
	MaxKeyringSize = 16 << 20 // bytes of all its files
	MaxKeyringKeys = 1024     // primary keys
	maxKeyFile     = 4 << 20  // bytes of one file of several
	maxKeySize     = 1 << 20  // bytes of one key with all its signatures
	maxKeyBits     = 16384    // of a modulus; larger ones take seconds to use
)

// ErrNoKeys means that a keyring holds no key that could verify anything.
var ErrNoKeys = errors.New("no usable OpenPGP key")

// Keyring is the set of keys whose signatures are trusted; the zero value trusts
// nobody. Nothing is ever added to it after it was loaded. Any number of
// goroutines may use it.
type Keyring struct {
	keys     []trustedKey
	byID     map[uint64][]int // key id of a primary key or subkey → indexes of keys
	warnings []string

	revocations [][]byte // signature packets that are to be applied when all is read
}

// trustedKey keeps the packets of a key rather than their parsed form, which
// go-crypto changes while it verifies.
type trustedKey struct {
	fingerprint string // of the primary key, upper-case hexadecimal
	identity    string // one of its user ids, made harmless for a terminal; may be empty
	packets     []byte
	ids         []uint64    // of the primary key, then of the subkeys
	moments     []time.Time // at which it, or what it certifies, begins or stops to count
}

// ParseKeyring reads the trusted keys from one armored or binary document.
func ParseKeyring(b []byte) (*Keyring, error) {
	k := &Keyring{}
	if err := k.addOnly(b, ""); err != nil {
		return nil, err
	}
	return k, nil
}

// Len is the number of keys.
func (k *Keyring) Len() int { return len(k.keys) }

// Warnings tells which files and keys could not be used.
func (k *Keyring) Warnings() []string { return slices.Clone(k.warnings) }

func (k *Keyring) warn(format string, args ...any) {
	if len(k.warnings) < 100 {
		k.warnings = append(k.warnings, cleanText(fmt.Sprintf(format, args...), 500))
	}
}

func (k *Keyring) firstWarning() string {
	if len(k.warnings) == 0 {
		return ""
	}
	return ": " + k.warnings[0]
}

// addOnly takes the one document of a keyring.
func (k *Keyring) addOnly(b []byte, file string) error {
	err := k.add(b, file)
	if err == nil && len(k.keys) == 0 {
		err = fmt.Errorf("%w: it holds a revocation alone", ErrNoKeys)
	}
	k.revoke()
	return err
}

// add takes the keys of one document, at least one of which must be usable, and its
// revocations. With an error it takes none.
func (k *Keyring) add(b []byte, file string) error {
	if len(b) > 12 && string(b[8:12]) == "KBXf" {
		return errors.New(`a GnuPG keybox; write its keys to a file with "gpg --export"`)
	}
	bodies, err := openPGPBodies(b, func(kind string) (bool, error) {
		return kind == openpgp.PublicKeyType || kind == openpgp.PrivateKeyType, nil
	})
	if err != nil {
		return err
	}
	taken := &Keyring{warnings: k.warnings}
	for _, body := range bodies {
		if err := taken.addPackets(body, file); err != nil {
			return err
		}
	}
	k.warnings = taken.warnings
	switch {
	case len(taken.keys)+len(taken.revocations) == 0:
		return fmt.Errorf("%w%s", ErrNoKeys, k.firstWarning())
	case len(k.keys)+len(taken.keys) > MaxKeyringKeys:
		return fmt.Errorf("more than %d keys", MaxKeyringKeys)
	}
	for _, key := range taken.keys {
		k.enter(key)
	}
	k.revocations = append(k.revocations, taken.revocations...)
	return nil
}

// addPackets cuts a sequence of packets at each primary key.
func (k *Keyring) addPackets(b []byte, file string) error {
	const signature, secretKey, publicKey = 2, 5, 6
	var key bytes.Buffer
	flush := func() {
		if key.Len() == 0 {
			return
		}
		if err := k.addKey(bytes.Clone(key.Bytes())); err != nil {
			k.warn("a key of %q: %v", file, err)
		}
		key.Reset()
	}
	r := packet.NewOpaqueReader(bytes.NewReader(b))
	for {
		p, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("malformed packets: %v", err)
		}
		if p.Tag == signature && isRevocation(p.Contents) {
			var raw bytes.Buffer
			if err := p.Serialize(&raw); err != nil {
				return err
			}
			k.revocations = append(k.revocations, raw.Bytes())
		}
		switch {
		case p.Tag == secretKey || p.Tag == publicKey:
			flush()
			if len(k.keys) == MaxKeyringKeys {
				return fmt.Errorf("more than %d keys", MaxKeyringKeys)
			}
		case key.Len() == 0:
			continue // nothing before the first key can belong to one
		}
		if err := p.Serialize(&key); err != nil {
			return err
		}
	}
	flush()
	return nil
}

func (k *Keyring) addKey(packets []byte) error {
	if len(packets) > maxKeySize {
		return fmt.Errorf("larger than %d bytes", maxKeySize)
	}
	e, err := openpgp.ReadEntity(packet.NewReader(bytes.NewReader(packets)))
	if err != nil {
		return err
	}
	for _, pub := range append([]*packet.PublicKey{e.PrimaryKey}, subkeysOf(e)...) {
		if n, err := pub.BitLength(); err == nil && n > maxKeyBits {
			return fmt.Errorf("a key of %d bits exceeds the limit of %d", n, maxKeyBits)
		}
	}
	k.keys = append(k.keys, trustedKey{
		fingerprint: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint), identity: identityOf(e),
		packets: packets, ids: keyIDs(e), moments: keyMoments(packets),
	})
	return nil
}

// enter adds a key that has been read.
func (k *Keyring) enter(key trustedKey) {
	if k.byID == nil {
		k.byID = make(map[uint64][]int)
	}
	for _, id := range key.ids {
		k.byID[id] = append(k.byID[id], len(k.keys))
	}
	k.keys = append(k.keys, key)
}

// keyIDs are those of the primary key and of the subkeys, each once.
func keyIDs(e *openpgp.Entity) []uint64 {
	ids := []uint64{e.PrimaryKey.KeyId}
	for _, pub := range subkeysOf(e) {
		if !slices.Contains(ids, pub.KeyId) {
			ids = append(ids, pub.KeyId)
		}
	}
	return ids
}

func subkeysOf(e *openpgp.Entity) []*packet.PublicKey {
	var keys []*packet.PublicKey
	for _, s := range e.Subkeys {
		keys = append(keys, s.PublicKey)
	}
	return keys
}

// identityOf picks the user id to show: the primary one, else the first by name.
func identityOf(e *openpgp.Entity) string {
	if _, id := e.PrimaryIdentity(time.Time{}, nil); id != nil {
		return cleanText(id.Name, 200)
	}
	if len(e.Identities) == 0 {
		return ""
	}
	return cleanText(slices.Min(slices.Collect(maps.Keys(e.Identities))), 200)
}

func keyIDText(id uint64) string { return fmt.Sprintf("%016X", id) }
