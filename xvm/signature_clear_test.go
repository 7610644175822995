package xvm

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

// TestClearText: what was signed comes back, and nothing around it is passed over.
func TestClearText(t *testing.T) {
	t.Parallel()
	k, err := LoadKeyring("testdata/keys/two.key")
	if err != nil {
		t.Fatal(err)
	}
	clear, now := readKeyFile(t, "testdata/keys", "clear.sig"), time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	text, by, err := k.ClearText(clear, now)
	if err != nil || by == nil || !bytes.Equal(bytes.TrimSpace(text), bytes.TrimSpace(readKeyFile(t, "testdata/keys", "message.txt"))) {
		t.Errorf("%q, %+v, %v", text, by, err)
	}
	for name, b := range map[string][]byte{
		"before": append([]byte("x\n"), clear...), "behind": append(bytes.Clone(clear), "x\n"...), "twice": append(bytes.Clone(clear), clear...),
		"none": []byte("x"), "cut": clear[:len(clear)-20], "changed": bytes.Replace(clear, text[:3], []byte("xyz"), 1),
	} {
		if text, _, err := k.ClearText(b, now); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

func FuzzClearText(f *testing.F) {
	k, err := LoadKeyring("testdata/keys/two.key")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(readKeyFile(f, "testdata/keys", "clear.sig"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, by, err := k.ClearText(b, time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC))
		if (by == nil) == (err == nil) || err != nil && text != nil {
			t.Fatalf("%q, %v, %v", text, by, err)
		}
	})
}
