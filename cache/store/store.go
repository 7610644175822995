package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/meter"
	"vmcastfs/cache/privdir"
)

// Options of [Open]. The zero value of everything but Dir is a sensible default.
type Options struct {
	Dir       string        // made with mode 0700 if it does not exist
	Limit     int64         // bytes of disk for blocks, in all processes that share Dir; 0: none
	MinFree   int64         // bytes to be left free on Dir's filesystem; 0: none
	Logger    *slog.Logger  // nil: silent
	SyncEvery time.Duration // how often written blocks are made durable and shown to other processes; 0: 200 ms

	age    time.Duration // how long an era of use lasts; 0: 10 minutes
	settle time.Duration // how often a loose file looks for its place; 0: 5 seconds
}

// Store is an open cache directory. All methods may be called concurrently.
type Store struct {
	opt    Options
	log    *slog.Logger
	top    privdir.Dir
	files  filesDir
	lock   *os.File
	quota  quota
	others patience
	documents

	readOnly bool // the disk took no writes when the directory was opened
	mode     int  // to open files with: O_RDWR, or O_RDONLY then

	kick chan struct{} // a file has something to journal
	stop chan struct{} // closed by Close
	work sync.WaitGroup

	damaged, full, evictedFiles, evictedBytes atomic.Int64
	refusal                                   atomic.Pointer[refusal] // the last one
	refusing                                  atomic.Bool             // nothing has been written since
	noClone                                   atomic.Bool             // the filesystem cannot share blocks
	logged                                    meter.Limiter

	// mu guards what follows. It is held for memory only. It comes after quota.mu and before the locks of a File.
	mu     sync.Mutex
	open   map[Key]*slot // guarded by mu
	closed bool          // guarded by mu
}

// slot is a file's place in the table of open files.
type slot struct {
	refs  int
	ready chan struct{} // closed when file and err are set
	file  *File
	err   error
}

// Open opens the cache directory, or makes one. The directory must belong to this user and be empty or a
// cache. Its mode becomes 0700. A directory of a version this code does not know gives [ErrFormat].
func Open(o Options) (*Store, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.SyncEvery <= 0 {
		o.SyncEvery = 200 * time.Millisecond
	}
	if o.age <= 0 {
		o.age = 10 * time.Minute
	}
	if o.settle <= 0 {
		o.settle = 5 * time.Second
	}
	top, err := openDir(o.Dir)
	if err != nil {
		return nil, err
	}
	s := &Store{
		opt: o, log: o.Logger, top: top,
		mode: unix.O_RDWR, kick: make(chan struct{}, 1), stop: make(chan struct{}),
		open: map[Key]*slot{},
	}
	if err := s.setup(); err != nil {
		s.closeDirs()
		if errors.Is(err, unix.EROFS) || errors.Is(err, fs.ErrPermission) {
			return nil, fmt.Errorf("cache directory %q is not writable: %w", o.Dir, err)
		}
		return nil, fmt.Errorf("cache directory %q: %w", o.Dir, err)
	}
	s.documents.quota, s.documents.warn = &s.quota, s.warn
	s.quota.limit, s.quota.minFree, s.quota.lock = o.Limit, o.MinFree, s.lock
	s.quota.used, s.quota.free, s.quota.evict = func() int64 { return s.usage().total() }, s.files.free, s.evict
	if s.readOnly {
		s.log.Warn("the disk of the cache is read-only: what is cached is served, nothing more is kept", "dir", o.Dir)
		return s, nil
	}
	s.work.Go(s.flusher)
	s.work.Go(s.settler)
	return s, nil
}

func (s *Store) setup() (err error) {
	sub := s.top.MakeSub
	s.lock, err = s.top.OpenFile("lock", unix.O_RDWR|unix.O_CREAT)
	if errors.Is(err, unix.EROFS) { // what it holds can be served all the same
		s.readOnly, s.mode, sub = true, unix.O_RDONLY, s.top.Sub
		s.lock, err = s.top.OpenFile("lock", unix.O_RDONLY)
	}
	if err != nil {
		return err
	}
	if err := waitLock(s.lock, unix.F_RDLCK, lockUse, setupPatience); err != nil {
		return err
	}
	alone := !s.readOnly
	if alone {
		err := waitLock(s.lock, unix.F_WRLCK, lockSetup, setupPatience)
		if _, made := s.top.StatOf("version"); errors.Is(err, ErrBusy) && made == nil {
			alone, sub, err = false, s.top.Sub, nil // the process that sets it up has stopped
		}
		if err != nil {
			return err
		}
		if alone {
			defer unlock(s.lock, lockSetup)
		}
	}
	if err := checkVersion(s.top); err != nil {
		return err
	}
	if s.files.Dir, err = sub("files"); err != nil {
		return err
	}
	if s.root, err = sub("docs"); err != nil {
		return err
	}
	if !alone {
		return nil
	}
	s.files.Sweep()
	names, _ := s.files.Names()
	for _, n := range names {
		if strings.HasPrefix(n, gonePrefix) {
			_ = s.files.Remove(n) // as a killed process was doing
		}
	}
	s.sweepDocs()
	return nil
}

func (s *Store) closeDirs() {
	for _, f := range []*os.File{s.root.File, s.files.File, s.lock, s.top.File} {
		if f != nil {
			f.Close()
		}
	}
}

// Close journals what is not journalled yet, and closes all files that are still open. They fail from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	slots := s.open
	s.open = map[Key]*slot{}
	s.mu.Unlock()
	close(s.stop)
	s.work.Wait()
	var errs []error
	for _, sl := range slots {
		<-sl.ready
		if sl.file != nil {
			errs = append(errs, sl.file.flush(), sl.file.shut())
		}
	}
	s.closeDirs()
	return errors.Join(errs...)
}

// File opens the file k, or adds it to the cache. size is in bytes, or [Unknown]. blockSize is a power of
// two from 4 KiB to 16 MiB. A file that is in the cache already keeps what it was made with; if that
// differs, the error is [ErrGeometry]. Opening takes time in proportion to the blocks present, not to the
// size. All callers in this process that open k share one File, which ends with its last Close.
func (s *Store) File(k Key, size int64, blockSize int) (*File, error) {
	if err := checkBlockSize(blockSize); err != nil {
		return nil, err
	}
	if size != Unknown {
		if err := checkSize(size, blockSize); err != nil {
			return nil, err
		}
	}
	f, err := s.acquire(k, blockSize)
	if errors.Is(err, fs.ErrNotExist) {
		f, err = s.acquire(k, blockSize) // we had joined someone who only looked whether it is there
	}
	if err != nil {
		return nil, err
	}
	if f.BlockSize() != blockSize {
		err = fmt.Errorf("open cached file %.12s with block size %d: it has %d: %w", string(k), blockSize, f.BlockSize(), ErrGeometry)
	} else if size != Unknown {
		err = f.SetSize(size)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	s.files.Touch(string(k) + lockSuffix)
	return f, nil
}

// acquire opens k, or joins the callers that have it open. With blockSize 0 the file must exist.
func (s *Store) acquire(k Key, blockSize int) (*File, error) {
	if err := k.check(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, fmt.Errorf("open cached file %.12s: %w", string(k), os.ErrClosed)
	}
	sl := s.open[k]
	if sl != nil {
		sl.refs++
		s.mu.Unlock()
		<-sl.ready
		return sl.file, sl.err
	}
	sl = &slot{refs: 1, ready: make(chan struct{})}
	s.open[k] = sl
	s.mu.Unlock()

	sl.file, sl.err = s.openFile(k, blockSize)
	if sl.err != nil && blockSize != 0 && !errors.Is(sl.err, ErrFormat) {
		sl.file, sl.err = s.looseFile(k, blockSize, sl.err)
	}
	if sl.err != nil {
		sl.err = fmt.Errorf("open cached file %.12s: %w", string(k), sl.err)
		s.mu.Lock()
		if s.open[k] == sl {
			delete(s.open, k)
		}
		s.mu.Unlock()
	}
	close(sl.ready)
	return sl.file, sl.err
}

// release gives back one reference. The last one journals what is left first, and counts again: the file
// may have been opened in the meantime.
func (s *Store) release(f *File) error {
	s.mu.Lock()
	sl := s.open[f.key]
	if sl == nil || sl.file != f {
		s.mu.Unlock()
		return nil // Store.Close was faster
	}
	if sl.refs > 1 {
		sl.refs--
		s.mu.Unlock()
		return nil
	}
	s.mu.Unlock()
	err := f.flush()

	s.mu.Lock()
	sl.refs--
	last := sl.refs == 0 && s.open[f.key] == sl
	if last {
		delete(s.open, f.key)
	}
	s.mu.Unlock()
	if last {
		err = errors.Join(err, f.shut())
	}
	return err
}

// openFiles returns the files open now, without references. One that is closed meanwhile answers os.ErrClosed.
func (s *Store) openFiles() []*File {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*File
	for _, sl := range s.open {
		select {
		case <-sl.ready:
			if sl.file != nil {
				all = append(all, sl.file)
			}
		default:
		}
	}
	return all
}

// warn logs at most one line a second: a dying disk must not fill the log as well.
func (s *Store) warn(msg string, args ...any) {
	if _, ok := s.logged.Allow(time.Now(), time.Second); ok {
		s.log.Warn(msg, args...)
	}
}
