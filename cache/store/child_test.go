package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"vmcastfs/cache/testkit"
)

const childBlocks = 400

// child is another process at work in the cache directory of a test; it is this test binary run again.
func child(cmd string) int {
	err := func() error {
		s, err := Open(Options{Dir: os.Getenv("STORE_TEST_DIR"), SyncEvery: 20 * time.Millisecond})
		if err != nil {
			return err
		}
		f, err := s.File(key("f"), childBlocks*bs, bs)
		if err != nil {
			return err
		}
		switch cmd {
		case "write": // for ever, until killed: writes and drops, and says so
			f.Pin()
			for i := int64(0); ; i++ {
				b := i * 7 % childBlocks
				if i%5 == 4 {
					if err := f.Drop((b + 50) % childBlocks); err != nil {
						return err
					}
				}
				if err := f.WriteBlock(b, content(b, bs)); err != nil {
					return err
				}
				if i == 20 {
					fmt.Println("busy")
				}
			}
		case "fetch": // fetches all blocks once, with claims, and says how many
			fmt.Println("ready")
			bufio.NewReader(os.Stdin).ReadString('\n')
			n, err := fetchAll(f, childBlocks/10)
			if err != nil {
				return err
			}
			fmt.Println(n)
		case "hold": // claims block 3, writes it when told to, and gives the claim back
			release, ok := f.Claim(3)
			if !ok {
				return errors.New("no claim")
			}
			fmt.Println("claimed")
			bufio.NewReader(os.Stdin).ReadString('\n')
			if err := f.WriteBlock(3, content(3, bs)); err != nil {
				return err
			}
			release()
			fmt.Println("written")
			bufio.NewReader(os.Stdin).ReadString('\n')
		}
		return s.Close()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// fetchAll makes every block present as a cache does, from one on and around: claim, look again, write. It counts
// what it fetched.
func fetchAll(f *File, from int64) (int, error) {
	n := 0
	for i := from; i < from+childBlocks; {
		b := i % childBlocks
		if f.Has(b) {
			i++
			continue
		}
		release, ok := f.Claim(b)
		if !ok {
			if err := f.WaitClaim(context.Background(), b); err != nil {
				return n, err
			}
			if !f.Has(b) {
				return n, fmt.Errorf("block %d is absent after its claim ended", b)
			}
			continue
		}
		if !f.Has(b) {
			if err := f.WriteBlock(b, content(b, bs)); err != nil {
				return n, err
			}
			n++
		}
		release()
	}
	return n, nil
}

type process struct {
	*exec.Cmd
	in  *os.File
	out *bufio.Scanner
}

func startChild(t *testing.T, dir, cmd string) *process {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "STORE_TEST_CHILD="+cmd, "STORE_TEST_DIR="+dir)
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stdin = r
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	t.Cleanup(func() {
		w.Close()
		c.Process.Kill()
		c.Wait()
	})
	return &process{c, w, bufio.NewScanner(out)}
}

func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.out.Scan() {
		t.Fatal("child ended early")
	}
	return strings.TrimSpace(p.out.Text())
}

func (p *process) say(t *testing.T) {
	t.Helper()
	if _, err := p.in.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
}

// L4: a process is killed while it writes; what is present afterwards is right, and all the rest can be written.
func TestL4Killed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	watcher := openStore(t, Options{Dir: dir})
	w := openFile(t, watcher, "f", childBlocks*bs, bs)
	for round := range 6 {
		c := startChild(t, dir, "write")
		c.line(t)
		// Somewhere in the life of the writer, while it is watched.
		for until := time.Now().Add(time.Duration(3+round*17) * time.Millisecond); time.Now().Before(until); {
			for b := w.present.nextPresent(0); b < childBlocks; b = w.present.nextPresent(b + 1) {
				p := make([]byte, bs)
				if n, err := w.ReadBlock(b, p); err == nil && string(p[:n]) != string(content(b, n)) {
					t.Fatalf("block %d is wrong", b)
				}
			}
		}
		c.Process.Signal(syscall.SIGKILL)
		c.Wait()
		s, err := Open(Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		f := openFile(t, s, "f", childBlocks*bs, bs)
		// Killed between punching a hole and journalling it, the child leaves that one block as a hole.
		p := make([]byte, bs)
		for b := f.present.nextPresent(0); b < childBlocks; b = f.present.nextPresent(b + 1) {
			if _, err := f.ReadBlock(b, p); err != nil && !isZero(p) {
				t.Fatal(err)
			}
		}
		if d := s.Stats().Damaged; d > 1 {
			t.Errorf("%d damaged blocks", d)
		}
		if n := len(presentBlocks(t, f)); round > 0 && n == 0 {
			t.Error("nothing survived")
		}
		if lockedElsewhere(f.lock, lockPin) {
			t.Error("the dead process still pins")
		}
		write(t, f, 0, 1, 2)
		s.Close()
	}
}

// Two processes that want the same blocks at the same time fetch each once, and see each other's.
func TestTwoProcessesFetchOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir, SyncEvery: 20 * time.Millisecond})
	f := openFile(t, s, "f", childBlocks*bs, bs)
	c := startChild(t, dir, "fetch")
	c.line(t)
	c.say(t)
	mine, err := fetchAll(f, 0)
	if err != nil {
		t.Fatal(err)
	}
	var theirs int
	fmt.Sscan(c.line(t), &theirs)
	if mine+theirs != childBlocks {
		t.Errorf("fetched %d and %d of %d blocks", mine, theirs, childBlocks)
	}
	t.Logf("fetched %d here and %d there", mine, theirs)
	if n := len(presentBlocks(t, f)); n != childBlocks {
		t.Errorf("%d blocks present", n)
	}
}

// The wait for another process's claim ends when the block is there, and soon.
func TestWaitClaim(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	f := openFile(t, s, "f", childBlocks*bs, bs)
	c := startChild(t, dir, "hold")
	c.line(t)
	if _, ok := f.Claim(3); ok {
		t.Fatal("claimed twice")
	}
	release, ok := f.Claim(4)
	if !ok {
		t.Fatal("the next block is claimed too")
	}
	release()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := f.WaitClaim(ctx, 3); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	clock := testkit.StartClock(t)
	c.say(t)
	if err := f.WaitClaim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	wantBlock(t, f, 3)
	if took := clock.Elapsed(); took > time.Minute {
		t.Errorf("took %v", took)
	}
}

// A claim ends with its process.
func TestClaimOfKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openStore(t, Options{Dir: dir})
	f := openFile(t, s, "f", childBlocks*bs, bs)
	c := startChild(t, dir, "hold")
	c.line(t)
	c.Process.Kill()
	c.Wait()
	if err := f.WaitClaim(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	release, ok := f.Claim(3)
	if !ok || f.Has(3) {
		t.Fatal("no claim after the death of its owner")
	}
	release()
}

func TestClaimsInOneProcess(t *testing.T) {
	t.Parallel()
	s := openStore(t, Options{Dir: t.TempDir()})
	f := openFile(t, s, "f", childBlocks*bs, bs)
	release, ok := f.Claim(1)
	if !ok {
		t.Fatal("no claim")
	}
	if _, ok := f.Claim(1); ok {
		t.Fatal("two claims")
	}
	waited := make(chan error)
	go func() { waited <- f.WaitClaim(context.Background(), 1) }()
	write(t, f, 1)
	release()
	release()
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	wantBlock(t, f, 1)
	// The lock stays until the block is journalled, which must not keep this process from claiming anew.
	if err := f.Drop(1); err != nil {
		t.Fatal(err)
	}
	release, ok = f.Claim(1)
	if !ok {
		t.Fatal("no claim after the drop")
	}
	release()
	if len(f.claims.held) != 0 || lockedElsewhereBy(t, f, lockClaims+1) {
		t.Error("a claim is left")
	}
}

// lockedElsewhereBy looks at a lock byte as another process would.
func lockedElsewhereBy(t *testing.T, f *File, at int64) bool {
	t.Helper()
	l, err := f.s.files.OpenFile(string(f.key)+lockSuffix, syscall.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return lockedElsewhere(l, at)
}
