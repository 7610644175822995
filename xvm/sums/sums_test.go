package sums

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

func ExampleDigests() {
	d := NewDigests([]Sum{
		{Algo: SHA1, Hex: "0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33"},
		{Algo: MD5, Hex: "acbd18db4cc2f85cedef654fccc4a4d8", Prefix: 3},
	})
	fmt.Fprint(d, "foo bar")
	ok, matched, mismatch := d.Compare()
	fmt.Println(ok, matched, mismatch)
	// Output: [false true] [md5:acbd18db4cc2f85cedef654fccc4a4d8/3] sha1 is 3773dea65156909838fa6c22825cafe090ff8030, expected 0beec7b5ea3f0fdbc95d0dd47f3c5bc275da8a33
}

func ExampleTable() {
	content := append(make([]byte, 4096), "the rest"...)
	table := NewTable(Unknown, 4096)
	h := NewHasher(4096, func(sum [32]byte, zero bool) error {
		table.Append(sum, zero)
		return nil
	})
	h.Write(content)
	h.Finish()
	fmt.Println(table.End(int64(len(content))), table.Blocks())
	sum, zero, ok := table.Sum(1)
	fmt.Printf("%.4x %t %t\n", sum, zero, ok)
	// Output:
	// true 2
	// 391d1f2e false true
}

func TestDigests(t *testing.T) {
	content := []byte(strings.Repeat("content ", 1000))
	for name, s := range map[string]Sum{
		"unknown":    {Algo: "crc32", Hex: "00000000"},
		"too long":   {Algo: MD5, Hex: fmt.Sprintf("%x", sha256.Sum256(content))},
		"prefix due": {Algo: SHA256, Hex: fmt.Sprintf("%x", sha256.Sum256(content)), Prefix: 8001},
		"wrong":      {Algo: SHA256, Hex: fmt.Sprintf("%x", sha256.Sum256(content[1:]))},
	} {
		d := NewDigests([]Sum{s})
		d.Write(content)
		if ok, matched, mismatch := d.Compare(); ok[0] || len(matched) != 0 || mismatch == "" {
			t.Errorf("%s: %v %v %q", name, ok, matched, mismatch)
		}
	}
	for _, prefix := range []int64{0, 1, 7999, 8000} {
		want := content
		if prefix > 0 {
			want = content[:prefix]
		}
		s := Sum{Algo: SHA256, Hex: fmt.Sprintf("%X", sha256.Sum256(want)), Prefix: prefix}
		for _, step := range []int{1, 3, 8000} {
			d := NewDigest(s)
			for p := content; len(p) > 0; p = p[min(step, len(p)):] {
				d.Write(p[:min(step, len(p))])
			}
			if d.Mismatch() != "" {
				t.Errorf("prefix %d in steps of %d: %s", prefix, step, d.Mismatch())
			}
		}
	}
}

func TestSumCheck(t *testing.T) {
	hex := fmt.Sprintf("%x", sha256.Sum256(nil))
	for s, ok := range map[Sum]bool{
		{Algo: SHA256, Hex: hex}:                       true,
		{Algo: SHA256, Hex: strings.ToUpper(hex)}:      true,
		{Algo: SHA256, Hex: hex, Prefix: 1}:            true,
		{Algo: SHA256, Hex: hex, Prefix: -1}:           false,
		{Algo: SHA1, Hex: hex}:                         false,
		{Algo: "sha3", Hex: hex}:                       false,
		{Algo: SHA256, Hex: strings.Repeat("xy", 32)}:  false,
		{Algo: SHA256, Hex: hex[:len(hex)-1]}:          false,
		{Algo: SHA512, Hex: strings.Repeat("0", 128)}:  true,
		{Algo: MD5, Hex: strings.Repeat("0123", 32/4)}: true,
	} {
		if err := s.Check(); (err == nil) != ok {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestHasher(t *testing.T) {
	content := append(append([]byte("a"), make([]byte, 20_000)...), "b"...)
	for _, zeros := range []bool{false, true} {
		table := NewTable(int64(len(content)), 4096)
		h := NewHasher(4096, func(sum [32]byte, zero bool) error {
			if !table.Append(sum, zero) {
				t.Error("no room")
			}
			return nil
		})
		h.Write(content[:1])
		if zeros {
			h.Zeros(20_000)
		} else {
			h.Write(content[1:20_001])
		}
		h.Write(content[20_001:])
		if err := h.Finish(); err != nil || !table.Complete() || table.Append([32]byte{}, true) {
			t.Fatal("incomplete", err)
		}
		for b := range table.Blocks() {
			p := content[b*4096 : min((b+1)*4096, int64(len(content)))]
			sum, zero, ok := table.Sum(b)
			if !ok || zero != Zero(p) || !zero && sum != sha256.Sum256(p) {
				t.Errorf("block %d: %x %t %t", b, sum, zero, ok)
			}
		}
		if table.Sums() != 2 || table.Index(0) != 0 || table.Index(2) != -1 || table.Index(4) != 1 || table.Index(5) != -1 || table.Index(-1) != -1 {
			t.Errorf("%d sums", table.Sums())
		}
	}
}

func TestDecodeMalformed(t *testing.T) {
	table := NewTable(3*4096+1, 4096)
	for i := range 4 {
		if !table.Append([32]byte{byte(i)}, i == 1) {
			t.Fatal("no room")
		}
	}
	if table.Append([32]byte{}, false) {
		t.Error("room for one too many")
	}
	good := table.Encode()
	for n := range good {
		if _, err := Decode(good[:n]); err == nil {
			t.Errorf("%d of %d bytes are accepted", n, len(good))
		}
	}
	if _, err := Decode(append(bytes.Clone(good), 0)); err == nil {
		t.Error("a byte too many is accepted")
	}
	for i := range 32 { // the head and the bits
		p := bytes.Clone(good)
		p[i] ^= 0x40
		if back, err := Decode(p); err == nil && back.Size() == table.Size() && i >= 24 {
			t.Errorf("byte %d changed is accepted", i)
		}
	}
}

func FuzzDecode(f *testing.F) {
	table := NewTable(3*4096+1, 4096)
	for i := range 4 {
		table.Append([32]byte{byte(i)}, i == 1)
	}
	f.Add(table.Encode())
	f.Add(NewTable(0, 4096).Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := Decode(b)
		if err == nil && !bytes.Equal(x.Encode(), b) {
			t.Error("encodes differently")
		}
	})
}
