package xvm

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// LoadKeyring reads the trusted keys from a file, or from the files of a
// directory whose names end in .asc, .gpg, .pgp or .key. A file is armored or
// binary and may hold several keys, and certificates that revoke keys of others.
//
// In a directory a file that cannot be used is left out with a warning that names
// it, and costs nothing but itself; a single file must be good. A file or
// directory that another user than root and the caller owns, or that everybody
// may write to, cannot be used: its writers would decide what is trusted. The
// error wraps [ErrNoKeys] when not one key is left, and fs.ErrNotExist when there
// is no such path.
func LoadKeyring(path string) (*Keyring, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	k := &Keyring{}
	if !st.IsDir() {
		b, err := readOwnFile(path, MaxKeyringSize)
		if err == nil {
			err = k.addOnly(b, path)
		}
		if err != nil {
			return nil, fmt.Errorf("keyring %q: %w", path, err)
		}
		return k, nil
	}
	if err := onlyOurs(st); err != nil {
		return nil, fmt.Errorf("keyring %q: %w", path, err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("open keyring: %w", err)
	}
	budget := int64(MaxKeyringSize)
	for _, e := range entries {
		if !isKeyFile(e.Name()) {
			continue
		}
		file := filepath.Join(path, e.Name())
		b, err := readOwnFile(file, maxKeyFile)
		switch {
		case err != nil:
		case int64(len(b)) > budget:
			err = fmt.Errorf("with it the keyring is larger than %d bytes", MaxKeyringSize)
		default:
			err = k.add(b, file)
		}
		if err != nil {
			k.warn("key file %q is left out: %v", e.Name(), err)
			continue
		}
		budget -= int64(len(b))
	}
	k.revoke()
	if len(k.keys) == 0 {
		return nil, fmt.Errorf("keyring %q: %w in its files *.asc, *.gpg, *.pgp, *.key%s", path, ErrNoKeys, k.firstWarning())
	}
	return k, nil
}

func isKeyFile(name string) bool {
	switch filepath.Ext(name) {
	case ".asc", ".gpg", ".pgp", ".key":
		return true
	}
	return false
}

// readOwnFile reads a file of at most limit bytes. It does not wait for a writer of
// a FIFO.
func readOwnFile(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	if err := onlyOurs(st); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("larger than %d bytes", limit)
	}
	return b, nil
}

// onlyOurs refuses what another user could put keys into.
func onlyOurs(info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("it belongs to another user (%d), who would decide what is trusted; make it root's", st.Uid)
	case info.Mode()&0o002 != 0 && info.Mode()&os.ModeSticky == 0:
		return fmt.Errorf("everybody may write to it (mode %#o)", info.Mode().Perm())
	}
	return nil
}

// KeyringStamp is another one after every change of the files that [LoadKeyring]
// would read. It reads none of them.
func KeyringStamp(path string) string {
	h := sha256.New()
	look := func(path string) fs.FileInfo {
		info, err := os.Stat(path)
		if err != nil {
			fmt.Fprintf(h, "%q %v\n", path, err)
			return nil
		}
		fmt.Fprintf(h, "%q %d %v %d", path, info.Size(), info.Mode(), info.ModTime().UnixNano())
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			fmt.Fprintf(h, " %d %d %d %d", st.Dev, st.Ino, st.Uid, st.Ctim.Nano())
		}
		fmt.Fprintln(h)
		return info
	}
	if info := look(path); info != nil && info.IsDir() {
		entries, err := os.ReadDir(path)
		fmt.Fprintln(h, err)
		for _, e := range entries {
			if isKeyFile(e.Name()) {
				look(filepath.Join(path, e.Name()))
			}
		}
	}
	return string(h.Sum(nil))
}
