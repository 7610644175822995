// Package trace holds what was seen of a boot from one image: which parts of it
// were read and how long each read waited, and which blocks came meanwhile, why
// and from where. A [Recorder] collects it, bounded to a MiB; a [Trace] is the
// values, and their form on the disk. The package knows no other room.
package trace

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/gzip"
)

// Limits of a trace. In memory it takes a MiB at most.
const (
	MaxReads    = 24_000
	MaxArrivals = 8_000
	maxFrom     = 255
	maxLabel    = 1024    // bytes of a name in From
	maxText     = 4 << 20 // bytes of the form on the disk, inflated
	// Window is how long after its first read a boot is over.
	Window = 3 * time.Minute
)

// Trace is one boot from one image. Times are in microseconds since Begun.
type Trace struct {
	Begun    time.Time `json:"begun"`
	Size     int64     `json:"size"`       // of the image, bytes; -1: unknown
	Block    int64     `json:"block_size"` // bytes
	Verify   string    `json:"verify,omitempty"`
	Full     bool      `json:"full,omitempty"` // more happened than was recorded
	Reads    []Read    `json:"reads"`
	Arrivals []Arrival `json:"arrivals"`
	// Elsewhere are all blocks known to have come last from another image or a mirror,
	// also before this boot. They need not be here any more.
	Elsewhere Runs     `json:"elsewhere,omitempty"`
	From      []string `json:"from,omitempty"` // what Arrival.From counts, from 1
}

// Read is one read of a guest.
type Read struct {
	At   uint32 `json:"t"`
	Took uint32 `json:"d"`
	Off  int64  `json:"o"`
	Len  uint32 `json:"n"`
	How  How    `json:"h,omitempty"`
}

// How says how a read was answered.
type How uint8

// A read found all blocks here, or fetched ahead, or waited for the network.
const (
	Hit How = iota
	Ahead
	Miss
)

// Arrival is a run of blocks that came between At and Until for one reason.
type Arrival struct {
	At    uint32 `json:"t"`
	Until uint32 `json:"u"`
	Block uint32 `json:"b"`
	N     uint32 `json:"n"`
	Why   Why    `json:"w,omitempty"`
	From  uint8  `json:"f,omitempty"` // one more than the place in Trace.From; 0: the server of the feed
}

// Why says why a block was fetched.
type Why uint8

// A block was asked for by a reader, came along with one, was in a profile, or was
// missing.
const (
	Asked Why = iota
	Along
	Profile
	Rest
)

// Encode is the form on the disk.
func (t *Trace) Encode() ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.StatelessCompression) // others take half a MiB, for the few lines that most are
	if err != nil {
		return nil, fmt.Errorf("encode a trace: %w", err)
	}
	if err := errors.Join(json.NewEncoder(z).Encode(t), z.Close()); err != nil {
		return nil, fmt.Errorf("encode a trace: %w", err)
	}
	return b.Bytes(), nil
}

// Decode reads that form, which anybody may have written.
func Decode(raw []byte) (*Trace, error) {
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("decode a trace: %w", err)
	}
	t := new(Trace)
	if err := json.NewDecoder(io.LimitReader(z, maxText)).Decode(t); err != nil {
		return nil, fmt.Errorf("decode a trace: %w", err)
	}
	if err := t.Check(); err != nil {
		return nil, err
	}
	o := *t
	t.Take(&o) // earlier versions have other orders
	return t, nil
}

// Check refuses values that no recorder gives.
func (t *Trace) Check() error {
	wrong := errors.New("this is no trace of a boot")
	blocks := uint64(1) << 32
	if t.Size >= 0 && t.Block > 0 {
		blocks = min(blocks, uint64((t.Size-1)/t.Block+1))
	}
	switch {
	case t.Size < -1, t.Block < 512, t.Block > 1<<30, len(t.Verify) > maxLabel:
		return wrong
	case len(t.Reads) > MaxReads, len(t.Arrivals) > MaxArrivals, len(t.Elsewhere) > MaxArrivals, len(t.From) > maxFrom:
		return wrong
	}
	for _, name := range t.From {
		if len(name) > maxLabel {
			return wrong
		}
	}
	for _, r := range t.Reads {
		if r.Off < 0 || r.How > Miss || t.Size >= 0 && r.Off+int64(r.Len) > t.Size {
			return wrong
		}
	}
	for i, list := range [][]Arrival{t.Arrivals, t.Elsewhere} {
		for _, a := range list {
			if a.Until < a.At || a.Why > Rest || int(a.From) > len(t.From) || i == 1 && a.From == 0 || uint64(a.Block)+uint64(a.N) > blocks {
				return wrong
			}
		}
	}
	return nil
}

// Bytes is how much was read, each read by itself.
func (t *Trace) Bytes() (n int64) {
	for _, r := range t.Reads {
		n += int64(r.Len)
	}
	return n
}
