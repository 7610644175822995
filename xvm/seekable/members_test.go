package seekable

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
)

func members(t testing.TB, plain []byte, o MemberOptions) []byte {
	t.Helper()
	var out bytes.Buffer
	m, err := NewMemberWriter(&out, o)
	if err != nil {
		t.Fatal(err)
	}
	for b := plain; len(b) > 0; {
		n := min(len(b), 10_000)
		if _, err := m.Write(b[:n]); err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestMemberWriter(t *testing.T) {
	t.Parallel()
	for name, plain := range plains() {
		for _, size := range []int{4096, 65536, 1 << 20} {
			var list []Member
			data := members(t, plain, MemberOptions{BlockSize: size, Workers: 3, Done: func(m Member) error {
				list = append(list, m)
				return nil
			}})
			if again := members(t, plain, MemberOptions{BlockSize: size, Workers: 1}); !bytes.Equal(again, data) {
				t.Fatalf("%s/%d: not deterministic", name, size)
			}
			off := int64(0)
			for i, m := range list {
				block := plain[i*size : min(len(plain), (i+1)*size)]
				if m.Index != int64(i) || m.Offset != off || m.Sum != sha256.Sum256(block) ||
					m.Zero != (len(block) > 0 && len(bytes.Trim(block, "\x00")) == 0) {
					t.Fatalf("%s/%d: member %+v", name, size, m)
				}
				got, err := readFrom(newReader(t, Gzip, data[m.Offset:m.Offset+m.Stored], Options{}), 0, -1)
				if err != nil || !bytes.Equal(got, block) {
					t.Fatalf("%s/%d: member %d: %v", name, size, i, err)
				}
				if head := data[m.Offset:]; !bytes.Equal(head[3:8], make([]byte, 5)) {
					t.Fatalf("%s/%d: the header has flags or a time: %x", name, size, head[:10])
				}
				off += m.Stored
			}
			if off != int64(len(data)) || len(list) != max(1, (len(plain)+size-1)/size) {
				t.Fatalf("%s/%d: %d members, %d of %d bytes", name, size, len(list), off, len(data))
			}
		}
		data := members(t, plain, MemberOptions{})
		t.Run(name, func(t *testing.T) { sweep(t, Gzip, data, plain) })
		if got := command(t, data, "gzip", "-dc"); !bytes.Equal(got, plain) {
			t.Fatalf("%s: gunzip disagrees", name)
		}
	}
}

func TestMemberWriterErrors(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	m, err := NewMemberWriter(&bytes.Buffer{}, MemberOptions{BlockSize: 4096, Workers: 1, Done: func(Member) error { return boom }})
	if err != nil {
		t.Fatal(err)
	}
	n, err := m.Write(make([]byte, 2*jobBytes))
	if err != boom || n == 2*jobBytes {
		t.Error(n, err)
	}
	if err := m.Close(); err != boom {
		t.Error(err)
	}
	if _, err := NewMemberWriter(nil, MemberOptions{BlockSize: 1}); !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
	m, _ = NewMemberWriter(&bytes.Buffer{}, MemberOptions{})
	m.Close()
	if _, err := m.Write([]byte{1}); err != ErrClosed {
		t.Error(err)
	}
}

func BenchmarkMemberWriter(b *testing.B) {
	plain := disk(16<<20, 1)
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			for b.Loop() {
				members(b, plain, MemberOptions{Workers: workers})
			}
		})
	}
}
