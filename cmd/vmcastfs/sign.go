package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"vmcastfs/xvm"
	xvmpack "vmcastfs/xvm/pack"
)

// signFlags are the flags of the commands that sign.
type signFlags struct {
	key, passphrase, gpg string
	date                 string
}

func (f *signFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "sign", "", "sign with the secret OpenPGP key in `KEYFILE`")
	cmd.Flags().StringVar(&f.passphrase, "passphrase-file", "", "`FILE` with the passphrase of that key")
	cmd.Flags().StringVar(&f.gpg, "gpg", "", "sign with gpg and the key `KEYID` of its agent")
	cmd.Flags().StringVar(&f.date, "date", "", "`TIME` of the result: 2026-03-01, 2026-03-01T12:00:00Z or @SECONDS (default: SOURCE_DATE_EPOCH, else that of the newest input)")
	cmd.MarkFlagsMutuallyExclusive("sign", "gpg")
}

// read is what the flags say.
func (f *signFlags) read() (xvmpack.Sign, time.Time, error) {
	sign, err := f.sign()
	if err != nil {
		return nil, time.Time{}, err
	}
	at, err := f.time()
	return sign, at, err
}

// parseBlockSize reads the flag --block-size.
func parseBlockSize(s string) (int, error) {
	n, err := parseSize(s)
	if err != nil || n < xvmpack.MinBlockSize || n > xvmpack.MaxBlockSize || n&(n-1) != 0 {
		return 0, usagef("--block-size %s: must be a power of two from 4K to 8M", s)
	}
	return int(n), nil
}

// sign returns nil if nothing is to be signed.
func (f *signFlags) sign() (xvmpack.Sign, error) {
	switch {
	case f.gpg != "":
		return xvmpack.GPGSign(f.gpg), nil
	case f.key == "":
		if f.passphrase != "" {
			return nil, usagef("--passphrase-file goes with --sign")
		}
		return nil, nil
	}
	key, err := os.ReadFile(f.key)
	if err != nil {
		return nil, withCode(exitFailed, fmt.Errorf("key: %w", err))
	}
	var passphrase []byte
	if f.passphrase != "" {
		if passphrase, err = os.ReadFile(f.passphrase); err != nil {
			return nil, withCode(exitFailed, fmt.Errorf("passphrase: %w", err))
		}
		passphrase = bytes.TrimRight(passphrase, "\r\n")
	}
	signer, err := xvm.ParseSigner(key, passphrase)
	if err != nil {
		return nil, withCode(exitFailed, fmt.Errorf("%s: %w", f.key, err))
	}
	return xvmpack.KeySign(signer), nil
}

// time is what --date or SOURCE_DATE_EPOCH says, or the zero time.
func (f *signFlags) time() (time.Time, error) {
	s := f.date
	if s == "" {
		epoch := os.Getenv("SOURCE_DATE_EPOCH")
		if epoch == "" {
			return time.Time{}, nil
		}
		s = "@" + epoch
	}
	t, err := parseDate(s)
	switch {
	case err != nil:
		return t, usagef("date %q: %w", s, err)
	case t.Unix() < 0 || t.Year() > 9999:
		return t, usagef("date %q: must lie between the years 1970 and 9999", s)
	case (f.key != "" || f.gpg != "") && t.After(time.Now().Add(5*time.Minute)):
		return t, usagef("date %q lies in the future: no reader would accept the signatures", s)
	}
	return t, nil
}

func parseDate(s string) (time.Time, error) {
	if s[0] == '@' {
		n, err := strconv.ParseInt(s[1:], 10, 64)
		if err != nil {
			return time.Time{}, errors.New("must be @ and seconds since 1970")
		}
		return time.Unix(n, 0).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateTime, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("must be a date, 2026-03-01 or 2026-03-01T12:00:00Z, or @SECONDS")
}
