package seekable

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A ReaderAt is the compressed file. ReadAt follows io.ReaderAt and must return soon after ctx ends.
type ReaderAt interface {
	ReadAt(ctx context.Context, p []byte, off int64) (int, error)
}

// Options are the limits of a Reader; every zero value means its default.
type Options struct {
	Every      int64         // distance of seek points in plain bytes; default 1 MiB, at least 64 KiB
	PointBytes int           // memory that seek points may take; default 16 MiB. When it is full, every second one goes
	MaxSize    int64         // greatest plain size; default 16 TiB
	MaxRatio   int64         // greatest plain:stored ratio of a file beyond 1 GiB plain; default 65536
	MaxWindow  int64         // greatest dictionary or window of xz and zstd; default 128 MiB
	Budget     *Budget       // memory of the decoders, shared with other Readers; default: as much as they need
	Origin     string        // whom the file comes from, say a server; Budget is shared fairly between origins
	Parked     int           // idle decoders kept for reuse; default 2
	Idle       time.Duration // an idle decoder is closed after this; default 30 s
	Logger     *slog.Logger

	chunks chunks // tests make them small
}

const (
	pointsSpacing = 1 << 20
	pointsNearest = 64 << 10
	ratioGrace    = 1 << 30
)

func (o *Options) fill() {
	def(&o.Every, pointsSpacing)
	o.Every = min(max(o.Every, pointsNearest), 1<<40)
	def(&o.MaxSize, 16<<40)
	def(&o.MaxRatio, 65536)
	def(&o.MaxWindow, 128<<20)
	def(&o.PointBytes, 16<<20)
	def(&o.Parked, 2)
	def(&o.Idle, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.chunks.min == 0 {
		o.chunks = chunks{chunkMin, chunkMax}
	}
}

func def[T int | int64 | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// A Reader gives random access to the plain content of one compressed file. All methods may be called concurrently.
type Reader struct {
	codec  codec
	src    ReaderAt
	stored int64
	o      Options
	limit  int64 // most plain bytes
	x      *index
	wg     sync.WaitGroup // of the runners' goroutines

	table tableOnce

	mu     sync.Mutex // guards what follows; the index's mutex may be taken while it is held
	parked []*runner  // longest idle first
	used   map[*runner]bool
	timer  *time.Timer // closes idle runners
	closed bool
}

// Open makes a Reader of a compressed file of the given length. It reads nothing yet. Formats that are not in the table give
// ErrUnsupported.
func Open(f Format, src ReaderAt, stored int64, o Options) (*Reader, error) {
	codec := f.find()
	if codec.format == "" {
		return nil, unsupported("format " + strconv.Quote(string(f)))
	}
	if stored < 0 || stored > maxStored {
		return nil, fmt.Errorf("%w: %d stored bytes", ErrLimit, stored)
	}
	o.fill()
	limit := o.MaxSize
	if stored < limit/o.MaxRatio {
		limit = min(limit, max(ratioGrace, stored*o.MaxRatio))
	}
	r := &Reader{codec: codec, src: src, stored: stored, o: o, limit: limit, used: make(map[*runner]bool)}
	r.x = &index{format: f, stored: stored, budget: o.PointBytes, every: o.Every, size: -1}
	o.Budget.enter(r)
	return r, nil
}

// maxStored keeps offsets in bits within an int64.
const maxStored = 1 << 56

// Size tells the plain size if it is known without decoding the whole: from the xz index, from the zstd seek table or
// a short walk over the zstd frames, from an earlier decoding to the end, or from Restore. It may read the end of the
// file, once; known is false, without an error, when the format does not say. Sizes stated by the file's own tables
// are checked by every decoding that gets there. A file that cannot be decoded (ErrUnsupported: an xz filter, a zstd
// dictionary; ErrLimit) is refused here already, as far as the same reads tell.
func (r *Reader) Size(ctx context.Context) (n int64, known bool, err error) {
	if n, known = r.x.known(); !known {
		if err := r.loadTable(ctx); err != nil {
			return 0, false, err
		}
		n, known = r.x.known()
	}
	if known && n > r.limit {
		return 0, false, &Error{Format: r.codec.format, Plain: r.limit, Err: fmt.Errorf("%w: %d plain bytes", ErrLimit, n)}
	}
	return n, known, nil
}

// Start is the greatest offset ≤ off at which Stream can begin without decoding what lies before it: an idle decoder,
// a seek point, or 0. It reads nothing, so that the tables of xz and zstd count only after the first Size or Stream.
func (r *Reader) Start(off int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := r.x.floor(off).out
	if i := r.nearest(off); i >= 0 {
		at = max(at, r.parked[i].off)
	}
	return at
}

// nearest is the parked runner with the greatest offset ≤ off that is of use, or -1; mu is held.
func (r *Reader) nearest(off int64) int {
	best := -1
	for i, w := range r.parked {
		if w.off <= off && (best < 0 || w.off > r.parked[best].off) && !r.x.stale(w.run) {
			best = i
		}
	}
	return best
}

// Stream decodes from plain offset off to the end, beginning at Start(off). Its Read gives io.EOF at the proven end
// only, when Size is known too; an *Error where the data is at fault; ctx's error when that ends. What is read before
// an error is valid, except that an error that is ErrPoints puts in doubt what this stream gave: it began at a false
// seek point. One Stream is for one goroutine; Close lets others use its decoder.
//
// The decoder goes on by at most a few hundred KiB when nobody reads, and its reads of the file have the values of
// ctx (of the Stream that uses it at the time) but not its end.
func (r *Reader) Stream(ctx context.Context, off int64) (io.ReadCloser, error) {
	if off < 0 {
		return nil, fmt.Errorf("negative offset %d", off)
	}
	n, known, err := r.Size(ctx)
	if err != nil {
		return nil, err
	}
	if known && off >= n {
		return nothing{}, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	p := r.x.floor(off)
	var w *runner
	if i := r.nearest(off); i >= 0 && r.parked[i].off >= p.out {
		w = r.parked[i]
		r.parked = slices.Delete(r.parked, i, i+1)
		w.ctx.user.Store(&ctx)
		r.used[w] = true
	} else {
		w = r.start(ctx, p, nil)
	}
	return &stream{r: r, ctx: ctx, w: w, off: off}, nil
}

// park takes a runner back from its stream.
func (r *Reader) park(w *runner) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, w)
	if r.closed || w.err != nil && len(w.rest) == 0 || r.x.stale(w.run) || r.o.Budget.short() {
		w.cancel(nil)
		return
	}
	w.since = time.Now()
	r.parked = append(r.parked, w)
	if len(r.parked) > r.o.Parked {
		r.parked[0].cancel(nil)
		r.parked = slices.Delete(r.parked, 0, 1)
	}
	if r.timer == nil {
		r.timer = time.AfterFunc(r.o.Idle, r.expire)
	} else {
		r.timer.Reset(r.o.Idle)
	}
}

// expire closes what has been idle for long.
func (r *Reader) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.parked) > 0 && now.Sub(r.parked[0].since) >= r.o.Idle {
		r.parked[0].cancel(nil)
		r.parked = slices.Delete(r.parked, 0, 1)
	}
	if len(r.parked) > 0 && !r.closed {
		r.timer.Reset(r.o.Idle - now.Sub(r.parked[0].since))
	}
}

// closeIdle closes all idle runners.
func (r *Reader) closeIdle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.parked {
		w.cancel(nil)
	}
	r.parked = nil
}

// Close ends every stream and decoder and waits for them.
func (r *Reader) Close() error {
	r.mu.Lock()
	r.closed = true
	if r.timer != nil {
		r.timer.Stop()
	}
	for _, w := range r.parked {
		w.cancel(nil)
	}
	for w := range r.used {
		w.cancel(nil)
	}
	r.parked = nil
	r.mu.Unlock()
	r.o.Budget.leave(r)
	r.wg.Wait()
	return nil
}

// Points are the seek points found so far, to be kept and given to Restore later; changed since the last call. The
// data is at most a little over Options.PointBytes long.
func (r *Reader) Points() (data []byte, changed bool) { return r.x.encode() }

// Restore takes what Points gave, for the same file; it should come before the first Stream. Damaged data, data of
// another format, version or length of file is refused with ErrPoints and changes nothing. See the package
// comment for what protects against points that are well formed and false.
func (r *Reader) Restore(data []byte) error { return r.x.decode(data) }
