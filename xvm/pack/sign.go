package pack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"vmcastfs/xvm"
)

// Sign makes an armored detached signature over data, dated at if it can.
type Sign func(ctx context.Context, data []byte, at time.Time) ([]byte, error)

// KeySign signs with a key of ours. If the key did not exist at the time given,
// the signature is dated with the earliest time at which it could sign.
func KeySign(s *xvm.Signer) Sign {
	return func(_ context.Context, data []byte, at time.Time) ([]byte, error) {
		if since := s.Since(); at.Before(since) {
			at = since
		}
		return s.Sign(data, at)
	}
}

// GPGSign signs by running gpg, so that the key may be in an agent or on a
// card. keyID is whatever gpg takes for -u. gpg dates the signature itself.
func GPGSign(keyID string) Sign {
	return func(ctx context.Context, data []byte, _ time.Time) ([]byte, error) {
		cmd := exec.CommandContext(ctx, "gpg", "--detach-sign", "--armor", "--digest-algo", "SHA512", "--output", "-", "-u", keyID)
		cmd.Stdin = bytes.NewReader(data)
		var out, said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &said
		cmd.Env = os.Environ()
		if err := cmd.Run(); err != nil {
			if errors.Is(err, exec.ErrNotFound) {
				return nil, errors.New("gpg is not installed (Debian: gnupg)")
			}
			return nil, fmt.Errorf("gpg: %w: %s", err, lastLine(said.String()))
		}
		return out.Bytes(), nil
	}
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return strings.ToValidUTF8(s[:min(len(s), 200)], "?")
}
