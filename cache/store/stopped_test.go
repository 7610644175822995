package store

import (
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vmcastfs/cache/testkit"
)

// stopped takes a lock as another process has it that was stopped just then.
func stopped(t *testing.T, path string, at int64) {
	t.Helper()
	lock, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lock.Close() })
	if ok, err := tryLock(lock, unix.F_WRLCK, at); !ok || err != nil {
		t.Fatal("the lock is not to be had", err)
	}
}

// TestStoppedWithALock has processes stopped while they hold each of the short locks. The others
// serve what is cached, and do not wait for each file anew.
func TestStoppedWithALock(t *testing.T) {
	t.Parallel()
	const files = 20
	dir := t.TempDir()
	name := func(i int) string { return fmt.Sprint("f", i) }
	first := openStore(t, Options{Dir: dir})
	for i := range files {
		write(t, openFile(t, first, name(i), 4*bs, bs), 0, 2)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		take func(t *testing.T)
	}{
		{"sets up the directory", func(t *testing.T) { stopped(t, dir+"/lock", lockSetup) }},
		{"writes journals", func(t *testing.T) {
			for i := range files {
				stopped(t, path(first, name(i), lockSuffix), lockJournal)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.take(t)
			clock := testkit.StartClock(t)
			s := openStore(t, Options{Dir: dir, SyncEvery: time.Millisecond})
			infos, err := s.List()
			if err != nil || len(infos) != files {
				t.Fatal(len(infos), err)
			}
			for _, i := range infos {
				if i.Blocks < 2 || i.Err != nil {
					t.Errorf("file %.12s: %d blocks, %v", string(i.Key), i.Blocks, i.Err)
				}
			}
			for i := range files {
				f := openFile(t, s, name(i), 4*bs, bs)
				wantBlock(t, f, 0)
				wantAbsent(t, f, 1)
				write(t, f, 3)
				wantBlock(t, f, 3)
			}
			if p, err := s.Verify(t.Context(), nil); err != nil || p.Failed > 0 || p.Damaged > 0 {
				t.Errorf("%+v, %v", p, err)
			}
			s.Close()
			if d := clock.Elapsed(); d > setupPatience+files*lockPatience/2 {
				t.Errorf("all that took %s", d)
			}
		})
	}
	s := openStore(t, Options{Dir: dir})
	for i := range files {
		wantBlock(t, openFile(t, s, name(i), 4*bs, bs), 2)
	}
}

// TestStoppedWithoutAJournal opens a file that another process was just about to make. It is loose
// until that goes on.
func TestStoppedWithoutAJournal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir, settle: 10 * time.Millisecond})
	if err := os.WriteFile(path(s, "f", lockSuffix), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(path(s, "f", lockSuffix), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := tryLock(lock, unix.F_WRLCK, lockJournal); !ok || err != nil {
		t.Fatal(err)
	}
	f := openFile(t, s, "f", 4*bs, bs)
	wantAbsent(t, f, 0)
	if f.loose.Load() == nil {
		t.Error("it is not loose")
	}
	lock.Close()
	testkit.Eventually(t, "it is cached", time.Minute, func() bool { return f.WriteBlock(1, content(1, bs)) == nil })
	wantBlock(t, f, 1)
}

// TestReadersDoNotWaitForTheJournal claims a block while the flusher waits for a stopped process.
func TestReadersDoNotWaitForTheJournal(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir(), SyncEvery: time.Hour})
	f := openFile(t, s, "f", 64*bs, bs)
	stopped(t, path(s, "f", lockSuffix), lockJournal)
	b := int64(0)
	testkit.Eventually(t, "a claim ends before a flush that began earlier", time.Minute, func() bool {
		b++
		write(t, f, b)
		s.others.vain.Store(0)
		flushed := make(chan time.Time)
		go func() { f.flush(); flushed <- time.Now() }()
		time.Sleep(lockPatience / 4) // the flush waits
		release, ok := f.Claim(40)
		claimed := time.Now()
		if !ok {
			t.Fatal("no claim")
		}
		release()
		return claimed.Before(<-flushed)
	})
}
