package xvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"
)

// Limits of a keyring.
const (
	MaxKeyringSize = 16 << 20 // bytes of all its files
	MaxKeyringKeys = 1024     // primary keys
	maxKeySize     = 1 << 20  // bytes of one key with all its signatures
	maxKeyBits     = 16384    // of a modulus; larger ones take seconds to use
)

// ErrNoKeys means that a keyring holds no key that could verify anything.
var ErrNoKeys = errors.New("no usable OpenPGP key")

// Keyring is the set of keys whose signatures are trusted. Nothing is ever
// added to it after it was loaded. Any number of goroutines may use it.
type Keyring struct {
	keys     []trustedKey
	byID     map[uint64][]int // key id of a primary key or subkey → indexes of keys
	warnings []string
}

// trustedKey keeps the packets of a key rather than their parsed form, which
// go-crypto changes while it verifies.
type trustedKey struct {
	info    KeyInfo
	packets []byte
}

// KeyInfo describes a key of a keyring.
type KeyInfo struct {
	Fingerprint string    // of the primary key, upper-case hexadecimal
	KeyID       string    // of the primary key, 16 upper-case hexadecimal digits
	Identity    string    // one of its user ids, made harmless for a terminal; may be empty
	Created     time.Time // of the primary key
	File        string    // it was read from
}

// LoadKeyring reads the trusted keys from a file, or from the files of a
// directory whose names end in .asc, .gpg, .pgp or .key. A file is armored or
// binary and may hold several keys.
//
// In a directory a file that cannot be used is left out with a warning, so that
// one bad file does not stop the others; a single file must be good. The error
// wraps [ErrNoKeys] when not one key is left, and fs.ErrNotExist when there is
// no such path.
func LoadKeyring(path string) (*Keyring, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	k := &Keyring{byID: make(map[uint64][]int)}
	budget := int64(MaxKeyringSize)
	if !st.IsDir() {
		if err := k.loadFile(path, &budget); err != nil {
			return nil, fmt.Errorf("keyring %q: %w", path, err)
		}
		return k, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".asc", ".gpg", ".pgp", ".key":
			if err := k.loadFile(filepath.Join(path, e.Name()), &budget); err != nil {
				k.warn("key file %q: %v", e.Name(), err)
			}
		}
	}
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("keyring %q: %w in its files *.asc, *.gpg, *.pgp, *.key%s", path, ErrNoKeys, k.firstWarning())
	}
	return k, nil
}

// ParseKeyring reads the trusted keys from one armored or binary document.
func ParseKeyring(b []byte) (*Keyring, error) {
	k := &Keyring{byID: make(map[uint64][]int)}
	if err := k.add(b, ""); err != nil {
		return nil, err
	}
	return k, nil
}

// Keys describes the keys, in the order they were read.
func (k *Keyring) Keys() []KeyInfo {
	infos := make([]KeyInfo, len(k.keys))
	for i, t := range k.keys {
		infos[i] = t.info
	}
	return infos
}

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

func (k *Keyring) loadFile(path string, budget *int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if !st.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, *budget+1))
	if err != nil {
		return err
	}
	if *budget -= int64(len(b)); *budget < 0 {
		return fmt.Errorf("keyring larger than %d bytes", MaxKeyringSize)
	}
	return k.add(b, path)
}

// add takes the keys of one document; at least one must be usable.
func (k *Keyring) add(b []byte, file string) error {
	bodies := [][]byte{b}
	if len(b) > 12 && string(b[8:12]) == "KBXf" {
		return errors.New(`a GnuPG keybox; write its keys to a file with "gpg --export"`)
	}
	if len(b) == 0 || b[0]&0x80 == 0 {
		blocks, err := armorBlocks(b)
		if err != nil {
			return err
		}
		bodies = bodies[:0]
		for _, a := range blocks {
			if a.kind == openpgp.PublicKeyType || a.kind == openpgp.PrivateKeyType {
				bodies = append(bodies, a.body)
			}
		}
	}
	before := len(k.keys)
	for _, body := range bodies {
		if err := k.addPackets(body, file); err != nil {
			return err
		}
	}
	if len(k.keys) == before {
		return fmt.Errorf("%w%s", ErrNoKeys, k.firstWarning())
	}
	return nil
}

// addPackets cuts a sequence of packets at each primary key.
func (k *Keyring) addPackets(b []byte, file string) error {
	const secretKey, publicKey = 5, 6
	var key bytes.Buffer
	flush := func() {
		if key.Len() == 0 {
			return
		}
		if err := k.addKey(bytes.Clone(key.Bytes()), file); err != nil {
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

func (k *Keyring) addKey(packets []byte, file string) error {
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
	info := KeyInfo{
		Fingerprint: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint),
		KeyID:       keyIDText(e.PrimaryKey.KeyId),
		Identity:    identityOf(e),
		Created:     e.PrimaryKey.CreationTime,
		File:        file,
	}
	index := len(k.keys)
	k.keys = append(k.keys, trustedKey{info: info, packets: packets})
	k.byID[e.PrimaryKey.KeyId] = append(k.byID[e.PrimaryKey.KeyId], index)
	for _, pub := range subkeysOf(e) {
		if id := pub.KeyId; !slices.Contains(k.byID[id], index) {
			k.byID[id] = append(k.byID[id], index)
		}
	}
	return nil
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
	var names []string
	for n := range e.Identities {
		names = append(names, n)
	}
	if len(names) == 0 {
		return ""
	}
	return cleanText(slices.Min(names), 200)
}

func keyIDText(id uint64) string { return fmt.Sprintf("%016X", id) }
