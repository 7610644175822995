package boottrace

import "testing"

func TestReads(t *testing.T) {
	reads, err := Reads()
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, r := range reads {
		if r.Off < 0 || r.Len <= 0 || r.Off+r.Len > ImageSize {
			t.Errorf("%+v is not in the image", r)
		}
		sum += r.Len
	}
	if len(reads) != 821 || sum != 34_052_096 {
		t.Errorf("%d reads of %d bytes", len(reads), sum)
	}
}
